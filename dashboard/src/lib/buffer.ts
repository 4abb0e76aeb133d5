// Merges events into the rows of a list. Rows are ordered newest first; among events of the same time, the higher id
// comes first. Each id appears once.
import type { Event } from "../api/types";
import { sortKey } from "./time";

export const MAX_ROWS = 10_000;

export function isBefore(one: Event, other: Event): boolean {
  const [a, b] = [sortKey(one.timestamp), sortKey(other.timestamp)];
  return a === b ? one.id > other.id : a > b;
}

/** Merge ordered rows with events in any order; an event replaces the row with the same id. */
export function merge(rows: readonly Event[], events: readonly Event[]): Event[] {
  const fresh = [...new Map(events.map((event) => [event.id, event])).values()];
  fresh.sort((one, other) => (isBefore(one, other) ? -1 : 1));
  const ids = new Set(fresh.map((event) => event.id));
  const merged: Event[] = [];
  let next = 0;
  for (const row of rows) {
    if (ids.has(row.id)) continue;
    while (next < fresh.length && isBefore(fresh[next]!, row)) merged.push(fresh[next++]!);
    merged.push(row);
  }
  merged.push(...fresh.slice(next));
  return merged;
}
