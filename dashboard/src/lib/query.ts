// The search text: `severity:error type:payment_failed details.user.id:42 -word "a phrase" words`. It is the only state
// of the filter: the API parameters are derived from it, and a click on a value changes it.
import type { Params } from "../api/client";
import { SEVERITIES } from "../api/types";
import { table } from "./table";

/** The fields of the search text, and the API parameter of each. */
const FIELDS = table({
  severity: "severity",
  severity_min: "severity_min",
  type: "event_type",
  source: "source",
});
const EXAMPLES = table({
  severity: "error",
  severity_min: "warning",
  type: "payment_failed",
  source: "shop",
});
const DETAILS = "details.";
const MAX_WORDS_CHARS = 256;
const REPEATABLE = new Set(["type"]);

export interface Term {
  field: string;
  value: string;
  /** The term as written in the text. */
  raw: string;
}

export interface Query {
  terms: Term[];
  /** The free words as written, for `q=`. */
  words: string;
  problems: string[];
}

// A token is a run of characters other than spaces. Quotes enclose spaces; a backslash escapes the next character.
const TOKEN = /(?:\\.|"(?:\\.|[^"\\])*"?|[^\s"\\]|\\$)+/gs;
const FIELD = /^(-?)((?:\\.|[^\s:"\\])+):(.*)$/s;

export function parse(text: string): Query {
  const query: Query = { terms: [], words: "", problems: [] };
  const words: string[] = [];
  for (const [raw] of text.matchAll(TOKEN)) {
    if ((raw.replaceAll(/\\./gs, "").split('"').length - 1) % 2) query.problems.push(`Missing closing quote in ${raw}`);
    const [, minus, name, value] = FIELD.exec(raw) ?? [];
    if (name === undefined || !/^[a-z_]/i.test(name)) words.push(raw);
    else if (minus) query.problems.push(`${raw}: only words can be excluded (-word), not fields`);
    else addTerm(query, raw, name, unquoted(value!));
  }
  query.words = words.join(" ");
  if ([...query.words].length > MAX_WORDS_CHARS) {
    query.problems.push(`The search words exceed ${MAX_WORDS_CHARS} characters`);
  }
  return query;
}

function addTerm(query: Query, raw: string, name: string, value: string): void {
  const field = name.startsWith(DETAILS) ? name : name.toLowerCase();
  if (!(field in FIELDS) && !field.startsWith(DETAILS)) {
    const known = [...Object.keys(FIELDS), "details.<path>"].join(", ");
    const text = raw.replaceAll('"', "");
    query.problems.push(`Unknown field ${name}. The fields are ${known}. To search for the text, quote it: "${text}"`);
  } else if (!value && !field.startsWith(DETAILS)) {
    query.problems.push(`${name}: needs a value, for example ${name}:${EXAMPLES[field]}`);
  } else if (field.startsWith("severity") && !(SEVERITIES as readonly string[]).includes(value)) {
    query.problems.push(`${name}:${value} is not a severity. The severities are ${SEVERITIES.join(", ")}`);
  } else if (!REPEATABLE.has(field) && has(query, field)) {
    query.problems.push(`${name} appears more than once: keep only one`);
  } else {
    query.terms.push({ field, value, raw });
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

/** Return the API parameters, without the time range. */
export function paramsOf(query: Query): Params {
  const fields = query.terms.map(({ field, value }) => [FIELDS[field] ?? apiPath(field), value] as const);
  return query.words ? [...fields, ["q", query.words]] : fields;
}

/** The API escapes dots and backslashes in details keys; the search text also escapes what would end a token. */
function apiPath(field: string): string {
  return field.replaceAll(/\\(.)/gs, (both, one: string) => (one === "." || one === "\\" ? both : one));
}

/** Return the search field for a path into the details. */
export function detailsField(path: readonly (string | number)[]): string {
  return DETAILS + path.map((key) => String(key).replaceAll(/[\\.\s:"]/g, "\\$&")).join(".");
}

export function hasTerm(text: string, field: string, value: string): boolean {
  return parse(text).terms.some((term) => term.field === field && term.value === value);
}

/** Add a value: beside the others if the field is repeatable, else in place of the previous value. */
export function withTerm(text: string, field: string, value: string): string {
  const exclusive = field.startsWith("severity") ? ["severity", "severity_min"] : [field];
  const rest = without(
    text,
    (term) => exclusive.includes(term.field) && (!REPEATABLE.has(field) || term.value === value),
  );
  return `${rest} ${field}:${quoted(value)}`.trim();
}

export function withoutTerm(text: string, field: string, value: string): string {
  return without(text, (term) => term.field === field && term.value === value);
}

export function withoutField(text: string, field: string): string {
  return without(text, (term) => term.field === field);
}

function without(text: string, isRemoved: (term: Term) => boolean): string {
  const removed = new Set(parse(text).terms.filter(isRemoved).map((term) => term.raw));
  return [...text.matchAll(TOKEN)].map(([raw]) => raw).filter((raw) => !removed.has(raw)).join(" ");
}
