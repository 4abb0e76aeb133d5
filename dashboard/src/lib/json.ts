// JSON with its numbers as they were written: the collector keeps integers beyond 64 bits, JavaScript does not.

/** A number that JavaScript cannot hold exactly, as its text. */
export class Exact {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type Json = null | boolean | number | string | Exact | Json[] | { [key: string]: Json };

export function parseExactly(text: string): Json {
  const revive = (_key: string, value: unknown, context?: { source?: string }): unknown => {
    const source = context?.source; // a browser without it shows such numbers rounded
    return typeof value === "number" && source !== undefined && String(value) !== source ? new Exact(source) : value;
  };
  return JSON.parse(text, revive as (key: string, value: unknown) => unknown) as Json;
}

/** A value as the API compares it; null for objects and arrays, which are no filter. */
export function asText(value: Json): string | null {
  if (value instanceof Exact) return value.text;
  return value !== null && typeof value === "object" ? null : String(value);
}

/** JSON with line breaks; numbers as they were written. */
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

/** What stands at a path of keys; undefined when nothing does. */
export function at(value: unknown, path: readonly string[]): unknown {
  let found = value;
  for (const key of path) {
    if (found === null || typeof found !== "object") return undefined;
    found = (found as Record<string, unknown>)[key];
  }
  return found;
}
