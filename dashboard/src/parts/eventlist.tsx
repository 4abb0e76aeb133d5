// The list: a grid of virtual rows. The row that one looks at stays where it is, whatever comes in above or below it;
// at its newest end, the list follows.
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Event } from "../api/types";
import { titleOf, widthsOf } from "../lib/columns";
import type { Zone } from "../lib/time";
import { useVirtualRows } from "../lib/virtual";
import { Row } from "./row";

export const ROW_HEIGHT = 24;
const NEAR = 4; // px
const AHEAD = 30; // rows before the end at which the next page is asked for

interface Props {
  rows: readonly Event[];
  columns: readonly string[];
  order: "newest" | "oldest";
  zone: Zone;
  current: number | null;
  open: string | null;
  isAway: boolean;
  /** Whether there may be more behind the oldest row. */
  hasMore: boolean;
  onOpen: (event: Event) => void;
  onMore: () => void;
  /** Told when the list leaves its newest end, or is back. */
  onAway: (isAway: boolean) => void;
}

export function EventList(props: Props) {
  const { rows, columns, order, zone, current, open, isAway, hasMore, onOpen, onMore, onAway } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const anchor = useRef<{ id: number; offset: number } | null>(null);
  const virtual = useVirtualRows(scroller, rows.length, ROW_HEIGHT);
  const place = (index: number): number => (order === "newest" ? index : rows.length - 1 - index);

  const isAtEnd = (element: HTMLElement): boolean =>
    order === "newest"
      ? element.scrollTop <= NEAR
      : element.scrollHeight - element.clientHeight - element.scrollTop <= NEAR;

  const look = (): void => {
    const element = scroller.current!;
    const hasLeft = !isAtEnd(element);
    const first = Math.min(Math.floor(element.scrollTop / ROW_HEIGHT), rows.length - 1);
    const row = rows[place(first)];
    anchor.current = hasLeft && row ? { id: row.id, offset: element.scrollTop - first * ROW_HEIGHT } : null;
    onAway(hasLeft);
  };

  useLayoutEffect(() => {
    const element = scroller.current!;
    const kept = anchor.current;
    if (kept === null) {
      element.scrollTop = order === "newest" ? 0 : element.scrollHeight;
      return;
    }
    const found = rows.findIndex((row) => row.id === kept.id);
    const top = place(found) * ROW_HEIGHT + kept.offset;
    if (found >= 0 && Math.abs(top - element.scrollTop) > 0.5) element.scrollTop = top;
  }, [rows, order]);

  useLayoutEffect(() => {
    if (isAway) return; // else: it is back, also when it was told to be
    anchor.current = null;
    scroller.current!.scrollTop = order === "newest" ? 0 : scroller.current!.scrollHeight;
  }, [isAway]);

  const found = current === null ? -1 : rows.findIndex((row) => row.id === current);
  const shownBefore = useRef<number | null>(null);
  useLayoutEffect(() => {
    if (found < 0) return;
    const isFar = shownBefore.current === null && found * ROW_HEIGHT > scroller.current!.clientHeight;
    virtual.scrollToIndex(place(found), { align: isFar ? "center" : "auto" }); // far: by a link, to see around it
    shownBefore.current = current;
  }, [current, found >= 0]);

  const items = virtual.getVirtualItems();
  const isCurrentShown = items.some(({ index }) => rows[place(index)]?.id === current);
  const reached = order === "newest" ? (items.at(-1)?.index ?? 0) : rows.length - 1 - (items[0]?.index ?? 0);
  useLayoutEffect(() => {
    if (hasMore && reached >= rows.length - AHEAD) onMore();
  }, [hasMore, reached, rows.length]);

  return (
    <div
      ref={scroller}
      class="scroller"
      role="grid"
      onScroll={look}
      aria-label="Events"
      aria-rowcount={rows.length + 1}
      aria-activedescendant={isCurrentShown ? `event-${current}` : undefined}
      tabIndex={0}
      style={{ "--columns": widthsOf(columns) }}
    >
      <div role="rowgroup" class="heads">
        <div role="row" aria-rowindex={1} class="row head">
          {columns.map((column) => (
            <span key={column} role="columnheader" class="cell" title={column}>
              {titleOf(column)}
            </span>
          ))}
        </div>
      </div>
      <div class="sheet" role="rowgroup" style={{ height: `${virtual.getTotalSize()}px` }}>
        {items.map(({ index, start }) => {
            const event = rows[place(index)];
            return (
              event && (
                <Row
                  key={event.id}
                  event={event}
                  index={index}
                  top={start}
                  columns={columns}
                  zone={zone}
                  isCurrent={event.id === current}
                  isOpen={String(event.id) === open}
                  onOpen={onOpen}
                />
              )
            );
        })}
      </div>
    </div>
  );
}
