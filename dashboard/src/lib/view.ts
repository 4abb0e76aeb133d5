// The state of the dashboard, which is kept in the address. All of it is in the fragment: a link restores the view, and
// one page serves every view below any path prefix.
import { computed, signal } from "@preact/signals";
import { DEFAULT_RANGE, type Range, spanSeconds, type Zone } from "./time";

export const PAGES = ["events", "statistics", "health"] as const;
export type Page = (typeof PAGES)[number];
export const DEFAULT_COLUMNS: readonly string[] = ["time", "severity", "type", "source", "message"];

export interface View {
  page: Page;
  text: string;
  range: Range;
  columns: readonly string[];
  order: "newest" | "oldest";
  zone: Zone;
  /** The id of the event in the drawer. */
  event: string | null;
  /** The field that the histogram of the statistics page is grouped by. */
  by: string;
}

export const view = signal<View>(parse(location.hash));
export const page = computed(() => view.value.page);

export function parse(fragment: string): View {
  const [name = "", query = ""] = fragment.replace(/^#/, "").split("?", 2);
  const params = new URLSearchParams(query);
  const columns = params.getAll("column").filter(Boolean);
  return {
    page: PAGES.find((page) => page === name) ?? "events",
    text: params.get("q") ?? "",
    range: rangeOf(params),
    columns: columns.length ? columns : DEFAULT_COLUMNS,
    order: params.get("order") === "oldest" ? "oldest" : "newest",
    zone: (params.get("zone") ?? savedZone()) === "local" ? "local" : "utc",
    event: /^\d{1,19}$/.test(params.get("event") ?? "") ? params.get("event") : null,
    by: params.get("by") ?? "severity",
  };
}

function rangeOf(params: URLSearchParams): Range {
  const [from, to, span] = [params.get("from"), params.get("to"), params.get("range")];
  if (from && to && Date.parse(from) <= Date.parse(to)) return { kind: "between", from, to };
  return span && spanSeconds(span) ? { kind: "last", span } : DEFAULT_RANGE;
}

export function fragmentOf(view: View): string {
  const query = new URLSearchParams();
  if (view.text) query.set("q", view.text);
  if (view.range.kind === "last") query.set("range", view.range.span);
  else for (const end of ["from", "to"] as const) query.set(end, view.range[end]);
  if (view.columns.join() !== DEFAULT_COLUMNS.join()) for (const name of view.columns) query.append("column", name);
  if (view.order !== "newest") query.set("order", view.order);
  query.set("zone", view.zone);
  if (view.by !== "severity") query.set("by", view.by);
  if (view.event !== null) query.set("event", view.event);
  return `#${view.page}?${query}`;
}

/** Change the view. `push` adds a history entry, so that the browser's Back undoes the change. */
export function go(change: Partial<View>, how: "push" | "replace" = "push"): void {
  const next = { ...view.value, ...change };
  const fragment = fragmentOf(next);
  if (change.zone) saveZone(change.zone);
  if (fragment !== location.hash) history[how === "push" ? "pushState" : "replaceState"](null, "", fragment);
  view.value = next;
}

/** Return the zone that was chosen last; storage may be disabled in the browser. */
function savedZone(): string | null {
  try {
    return localStorage.getItem("zone");
  } catch {
    return null;
  }
}

function saveZone(zone: Zone): void {
  try {
    localStorage.setItem("zone", zone);
  } catch {
    // the address holds it as well
  }
}

function restore(): void {
  view.value = parse(location.hash);
}

addEventListener("popstate", restore);
addEventListener("hashchange", restore);
