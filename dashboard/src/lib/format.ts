// Counts and missing values as the dashboard shows them, in English.

/** Stands for events that have no value in a field. */
export const NO_VALUE = "(none)";

/** `1,234`. */
export function formatted(n: number): string {
  return n.toLocaleString("en");
}

/** `1 event`, `1,234 events`. */
export function plural(n: number, noun: string): string {
  return `${formatted(n)} ${noun}${n === 1 ? "" : "s"}`;
}
