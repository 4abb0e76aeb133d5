// The time range around an event: the widest of a few windows that does not hold too many events.
import { getJson, Problem } from "../api/client";
import type { Histogram } from "../api/types";
import { justAfter, type Range } from "./time";

const WINDOWS_S = [300, 60, 10, 1];
const MAX_EVENTS = 500; // newer than the event, so that it is among the first pages

/** Return a range with an event in its middle, small enough that the event is among the first pages. */
export async function rangeAround(moment: string): Promise<Range> {
  const at = Date.parse(moment);
  let range: Range & { kind: "between" } = { kind: "between", from: moment, to: justAfter(moment) };
  for (const window of WINDOWS_S) {
    const [from, to] = [at - window * 1_000, at + window * 1_000].map((end) => new Date(end).toISOString());
    range = { kind: "between", from: from!, to: to! };
    if ((await count(moment, to!)) <= MAX_EVENTS) return range;
  }
  return range;
}

async function count(from: string, to: string): Promise<number> {
  try {
    return (await getJson<Histogram>("api/events/histogram", [["from", from], ["to", to], ["by", "none"]])).total;
  } catch (error) {
    if (error instanceof Problem) return 0; // the list shows the problem
    throw error;
  }
}
