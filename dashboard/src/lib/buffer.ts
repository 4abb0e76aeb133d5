// Keeps the newest rows of a list, in its order: newest first, of the same moment the higher id first, each id once.
import type { Event } from "../api/types";
import { sortKey } from "./time";

export const MOST_ROWS = 10_000;

export function isBefore(one: Event, other: Event): boolean {
  const [a, b] = [sortKey(one.timestamp), sortKey(other.timestamp)];
  return a === b ? one.id > other.id : a > b;
}

/** Merge rows that are in order with events in any order; an event that is there already is replaced. */
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
