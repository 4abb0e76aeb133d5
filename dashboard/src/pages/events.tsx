// The events page: search, counts over time and by value, the list, and one event in the drawer.
import { useSignal } from "@preact/signals";
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import type { Params } from "../api/client";
import type { Event } from "../api/types";
import { rangeAround } from "../lib/context";
import { plural } from "../lib/format";
import { Listing } from "../lib/listing";
import { paramsOf, parse, withTerm } from "../lib/query";
import { useTicks } from "../lib/response";
import { useShortcuts } from "../lib/shortcuts";
import { bounds, type Range, rangeParams } from "../lib/time";
import { go, view } from "../lib/view";
import { ColumnMenu, inOrder } from "../parts/columnmenu";
import { Drawer } from "../parts/drawer";
import { EventList } from "../parts/eventlist";
import { Facets } from "../parts/facets";
import { Export } from "../parts/export";
import { ListBody } from "../parts/listbody";
import { OverTime } from "../parts/overtime";
import { RangePicker } from "../parts/rangepicker";
import { SearchBox } from "../parts/searchbox";
import { Empty } from "../parts/status";
import { TailState } from "../parts/tailstate";

const RECOUNT_S = 10;

export function EventsPage() {
  const { text, range, columns, order, zone, event: open } = view.value;
  const query = useMemo(() => parse(text), [text]);
  const listing = useListing(query.problems.length ? null : paramsOf(query), range);
  const [isPaused, setPaused] = useState(false);
  const [isScrolled, setScrolled] = useState(false);
  const current = useSignal(open === null ? null : Number(open)); // shortcuts may repeat faster than the page renders
  useEffect(() => listing?.hold(isPaused || isScrolled), [listing, isPaused, isScrolled]);
  useEffect(() => setScrolled(false), [listing]);

  const setText = (changed: string): void => go({ text: changed, event: null });
  const filter = (field: string, value: string): void => setText(withTerm(text, field, value));
  const setRange = (changed: Range): void => go({ range: changed });
  const show = useCallback((event: Event): void => {
    current.value = event.id;
    go({ event: String(event.id) }, "replace");
  }, []);
  const close = (): void => go({ event: null }, "replace");
  const showContext = async (moment: string): Promise<void> => {
    go({ text: "", range: await rangeAround(moment) });
    current.value = Number(open);
  };
  useLoadUntil(listing, open);

  const step = (by: number): void => {
    const rows = listing?.rows.peek() ?? [];
    const index = rows.findIndex((row) => row.id === current.peek());
    const next = rows[index < 0 ? 0 : index + (order === "newest" ? by : -by)];
    if (!next) return;
    current.value = next.id;
    if (view.peek().event !== null) show(next);
  };
  useShortcuts({
    j: () => step(1),
    k: () => step(-1),
    ArrowDown: () => step(1),
    ArrowUp: () => step(-1),
    Enter: () => current.value !== null && go({ event: String(current.value) }, "replace"),
    Escape: close,
    p: () => setPaused(!isPaused),
  });

  const revision = useRecount(listing);
  const ends = useMemo(() => rangeParams(range), [range, revision]);
  return (
    <main class="events">
      <div class="bar">
        <SearchBox text={text} onText={setText} />
        <RangePicker range={range} zone={zone} onRange={setRange} />
        {listing && <TailState listing={listing} isPaused={isPaused} onPause={() => setPaused(!isPaused)} />}
      </div>
      <Facets text={text} range={ends} revision={revision} onText={setText} />
      <section class="middle" aria-label="Events">
        {listing && (
          <OverTime params={[...paramsOf(query), ...ends]} revision={revision} zone={zone} by="severity" height={108} />
        )}
        <div class="tools">
          <button
            type="button"
            title="Change the sort order"
            onClick={() => go({ order: order === "newest" ? "oldest" : "newest" }, "replace")}
          >
            {order === "newest" ? "Newest first" : "Oldest first"}
          </button>
          <ColumnMenu columns={columns} onColumns={(changed) => go({ columns: changed }, "replace")} />
          {listing && <Export filter={paramsOf(query)} range={range} />}
          <span class="gap" />
          {listing && (isPaused || isScrolled) && listing.waiting.value > 0 && (
            <button
              type="button"
              class="pill"
              onClick={() => {
                setPaused(false);
                setScrolled(false);
                current.value = null;
              }}
            >
              {plural(listing.waiting.value, "new event")}
            </button>
          )}
        </div>
        {listing ? (
          <ListBody listing={listing} range={range} hasText={text !== ""}>
            <EventList
              rows={listing.rows.value}
              columns={columns}
              order={order}
              zone={zone}
              current={current.value}
              open={open}
              isScrolled={isScrolled}
              hasMore={listing.older.value === "more"}
              onOpen={show}
              onMore={() => void listing.more()}
              onScrolled={setScrolled}
            />
          </ListBody>
        ) : (
          <Empty>Correct the search to see events.</Empty>
        )}
      </section>
      {open !== null && (
        <Drawer
          id={open}
          zone={zone}
          matches={listing?.rows.value.find((row) => String(row.id) === open)?.matches}
          onFilter={filter}
          onColumn={(field) => go({ columns: inOrder([...new Set([...columns, field])]) }, "replace")}
          onContext={(moment) => void showContext(moment)}
          onClose={close}
        />
      )}
    </main>
  );
}

/** One listing for each filter and range. */
function useListing(filter: Params | null, range: Range): Listing | null {
  const key = JSON.stringify([filter, range]);
  const listing = useMemo(() => {
    if (filter === null) return null;
    const { from, to } = bounds(range);
    return new Listing(filter, from, to);
  }, [key]);
  useEffect(() => {
    listing?.start();
    return () => listing?.close();
  }, [listing]);
  return listing;
}

/** When a view is opened with an event, load pages until the event is in the list. */
function useLoadUntil(listing: Listing | null, open: string | null): void {
  useEffect(() => {
    const { range } = view.value;
    if (listing && open !== null && range.kind === "between") void listing.reach(Number(open));
  }, [listing]);
}

/** Changes when counts should be refreshed: every few seconds, if events have arrived. */
function useRecount(listing: Listing | null): number {
  const ticks = useTicks(RECOUNT_S);
  return useMemo(() => listing?.arrivals.peek() ?? 0, [ticks, listing]);
}
