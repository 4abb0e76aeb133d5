// The search text: `severity:error type:payment_failed details.user.id:42 -word "a phrase" words`. It is the only state
// of the filter; the parameters of the API are made from it, and a click on a value changes it.
import type { Params } from "../api/client";
import { SEVERITIES } from "../api/types";

/** Fields by the names that people write, and the parameters that they become. */
const FIELDS: Readonly<Record<string, string>> = {
  severity: "severity",
  severity_min: "severity_min",
  type: "event_type",
  source: "source",
};
const DETAILS = "details.";
const MOST_TEXT = 256;
const REPEATABLE = new Set(["type"]);

export interface Term {
  field: string;
  value: string;
  /** As it stands in the text. */
  raw: string;
}

export interface Query {
  terms: Term[];
  /** The free words as they were written, for `q=`. */
  words: string;
  problems: string[];
}

// A token is a run of anything but spaces, in which quotes hold spaces, and a backslash takes the next character.
const TOKEN = /(?:\\.|"(?:\\.|[^"\\])*"?|[^\s"\\]|\\$)+/gs;
const FIELD = /^(-?)((?:\\.|[^\s:"\\])+):(.*)$/s;

export function parse(text: string): Query {
  const found: Query = { terms: [], words: "", problems: [] };
  const words: string[] = [];
  for (const [raw] of text.matchAll(TOKEN)) {
    if ((raw.replaceAll(/\\./gs, "").split('"').length - 1) % 2) found.problems.push(`A quote is not closed in ${raw}`);
    const [, minus, name, value] = FIELD.exec(raw) ?? [];
    if (name === undefined || !/^[a-z_]/i.test(name)) words.push(raw);
    else if (minus) found.problems.push(`${raw}: only words can be excluded, as -word; a field cannot`);
    else takeField(found, raw, name, unquoted(value!));
  }
  found.words = words.join(" ");
  if ([...found.words].length > MOST_TEXT) found.problems.push(`The words are more than ${MOST_TEXT} characters`);
  if (has(found, "severity") && has(found, "severity_min")) {
    found.problems.push("severity and severity_min cannot stand together: keep one");
  }
  return found;
}

function takeField(found: Query, raw: string, name: string, value: string): void {
  const field = name.startsWith(DETAILS) ? name : name.toLowerCase();
  if (!(field in FIELDS) && !field.startsWith(DETAILS)) {
    const known = [...Object.keys(FIELDS), "details.<path>"].join(", ");
    const text = raw.replaceAll('"', "");
    const remedy = `To search for the text, put it in quotes: "${text}"`;
    found.problems.push(`There is no field ${name}; there are ${known}. ${remedy}`);
  } else if (!value && !field.startsWith(DETAILS)) {
    found.problems.push(`${name}: needs a value, as ${name}:${name.startsWith("severity") ? "error" : "a"}`);
  } else if (field.startsWith("severity") && !(SEVERITIES as readonly string[]).includes(value)) {
    found.problems.push(`${name}:${value} is none of ${SEVERITIES.join(", ")}`);
  } else if (!REPEATABLE.has(field) && has(found, field)) {
    found.problems.push(`${name} stands twice: keep one`);
  } else {
    found.terms.push({ field, value, raw });
  }
}

function has(query: Query, field: string): boolean {
  return query.terms.some((term) => term.field === field);
}

function unquoted(value: string): string {
  const inner = /^"((?:\\.|[^"\\])*)"?$/s.exec(value)?.[1];
  return inner === undefined ? value : inner.replaceAll(/\\(.)/gs, "$1");
}

function quoted(value: string): string {
  return value && !/[\s"\\]/.test(value) ? value : `"${value.replaceAll(/["\\]/g, "\\$&")}"`;
}

/** The parameters of the API, without the time range. */
export function paramsOf(query: Query): Params {
  const fields = query.terms.map(({ field, value }) => [FIELDS[field] ?? apiPath(field), value] as const);
  return query.words ? [...fields, ["q", query.words]] : fields;
}

/** The API escapes dots and backslashes of keys; the text also what would end a token. */
function apiPath(field: string): string {
  return field.replaceAll(/\\(.)/gs, (both, one: string) => (one === "." || one === "\\" ? both : one));
}

/** The field of a value in the details. */
export function detailsField(path: readonly (string | number)[]): string {
  return DETAILS + path.map((key) => String(key).replaceAll(/[\\.\s:"]/g, "\\$&")).join(".");
}

export function hasTerm(text: string, field: string, value: string): boolean {
  return parse(text).terms.some((term) => term.field === field && term.value === value);
}

/** Put a value in: beside others where several may stand, else in place of the one before. */
export function withTerm(text: string, field: string, value: string): string {
  const rivals = field.startsWith("severity") ? ["severity", "severity_min"] : [field];
  const kept = rebuilt(text, (term) => rivals.includes(term.field) && (!REPEATABLE.has(field) || term.value === value));
  return `${kept} ${field}:${quoted(value)}`.trim();
}

export function withoutTerm(text: string, field: string, value: string): string {
  return rebuilt(text, (term) => term.field === field && term.value === value);
}

export function withoutField(text: string, field: string): string {
  return rebuilt(text, (term) => term.field === field);
}

function rebuilt(text: string, isOut: (term: Term) => boolean): string {
  const out = new Set(parse(text).terms.filter(isOut).map((term) => term.raw));
  return [...text.matchAll(TOKEN)].map(([raw]) => raw).filter((raw) => !out.has(raw)).join(" ");
}
