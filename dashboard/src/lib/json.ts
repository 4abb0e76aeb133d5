// JSON whose numbers keep their text: the collector stores integers beyond 64 bits, which JavaScript would round.

/** A number that JavaScript cannot represent exactly, as its text. */
export class Exact {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type Json = null | boolean | number | string | Exact | Json[] | { [key: string]: Json };

export function parseExactly(text: string): Json {
  const revive = (_key: string, value: unknown, context?: { source?: string }): unknown => {
    const source = context?.source; // browsers without it show such numbers rounded
    return typeof value === "number" && source !== undefined && String(value) !== source ? new Exact(source) : value;
  };
  return JSON.parse(text, revive as (key: string, value: unknown) => unknown) as Json;
}

// As many digits as the first integer that JavaScript rounds, 2^53 + 1. Ids of events are below it; an `id` within the
// details has a space before its value.
const LONG = /(?<!"id":)\b\d[\d.]{15}/;

/** Parse a value of the API; exactly, which is slower, if it may have a number that JavaScript rounds. */
export function parseValue<T>(text: string): T {
  return (LONG.test(text) ? parseExactly(text) : JSON.parse(text)) as T;
}

/** Return a value as the API compares it; null for objects and arrays, which cannot be filtered by. */
export function asText(value: Json): string | null {
  if (value instanceof Exact) return value.text;
  return value !== null && typeof value === "object" ? null : String(value);
}

/** Format JSON with line breaks; numbers keep their text. */
export function pretty(value: Json, indent = ""): string {
  if (value instanceof Exact) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}  `;
  const parts = Array.isArray(value)
    ? value.map((each) => inner + pretty(each, inner))
    : Object.entries(value).map(([key, each]) => `${inner}${JSON.stringify(key)}: ${pretty(each, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return parts.length ? `${open}\n${parts.join(",\n")}\n${indent}${close}` : `${open}${close}`;
}

/** Format JSON on one line; numbers keep their text. */
export function inline(value: Json): string {
  if (value instanceof Exact) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(inline).join(",")}]`;
  return `{${Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}:${inline(each)}`).join(",")}}`;
}

/** Return the value at a path of details keys; undefined if there is none. */
export function at(value: unknown, path: readonly string[]): unknown {
  let current = value;
  for (const key of path) {
    if (current === null || typeof current !== "object" || current instanceof Exact) return undefined;
    if (!Object.hasOwn(current, key) || (Array.isArray(current) && key === "length")) return undefined;
    current = (current as Record<string, unknown>)[key];
  }
  return current;
}
