// The list: a grid of virtual rows. While it is scrolled away from its newest end, visible rows do not move when rows
// are added above or below them; at its newest end, the list follows new events.
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Event } from "../api/types";
import { titleOf, widthsOf } from "../lib/columns";
import type { Zone } from "../lib/time";
import { useVirtualRows } from "../lib/virtual";
import { Row } from "./row";

export const ROW_HEIGHT = 24;
const END_TOLERANCE = 4; // px
const PREFETCH_ROWS = 30; // how many rows before the last one the next page is requested

interface Props {
  rows: readonly Event[];
  columns: readonly string[];
  order: "newest" | "oldest";
  zone: Zone;
  current: number | null;
  open: string | null;
  /** Whether the list is scrolled away from its newest end. */
  isScrolled: boolean;
  /** Whether there may be events older than the last row. */
  hasMore: boolean;
  onOpen: (event: Event) => void;
  onMore: () => void;
  /** Called when the list is scrolled away from its newest end, and back. */
  onScrolled: (isScrolled: boolean) => void;
}

export function EventList(props: Props) {
  const { rows, columns, order, zone, current, open, isScrolled, hasMore, onOpen, onMore, onScrolled } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const anchor = useRef<{ id: number; offset: number } | null>(null);
  const virtual = useVirtualRows(scroller, rows.length, ROW_HEIGHT);
  const position = (index: number): number => (order === "newest" ? index : rows.length - 1 - index);

  const isAtNewest = (element: HTMLElement): boolean =>
    order === "newest"
      ? element.scrollTop <= END_TOLERANCE
      : element.scrollHeight - element.clientHeight - element.scrollTop <= END_TOLERANCE;

  const onScroll = (): void => {
    const element = scroller.current;
    if (element === null) return; // the last event of a list that has just been removed
    const isAway = !isAtNewest(element);
    const first = Math.min(Math.floor(element.scrollTop / ROW_HEIGHT), rows.length - 1);
    const row = rows[position(first)];
    anchor.current = isAway && row ? { id: row.id, offset: element.scrollTop - first * ROW_HEIGHT } : null;
    onScrolled(isAway);
  };

  useLayoutEffect(() => {
    const element = scroller.current!;
    const kept = anchor.current;
    if (kept === null) {
      element.scrollTop = order === "newest" ? 0 : element.scrollHeight;
      return;
    }
    const index = rows.findIndex((row) => row.id === kept.id);
    const top = position(index) * ROW_HEIGHT + kept.offset;
    if (index >= 0 && Math.abs(top - element.scrollTop) > 0.5) element.scrollTop = top;
  }, [rows, order]);

  useLayoutEffect(() => {
    if (isScrolled) return; // else: back at the newest end, by scrolling or by the button
    anchor.current = null;
    scroller.current!.scrollTop = order === "newest" ? 0 : scroller.current!.scrollHeight;
  }, [isScrolled]);

  const currentIndex = current === null ? -1 : rows.findIndex((row) => row.id === current);
  const previous = useRef<number | null>(null);
  useLayoutEffect(() => {
    if (currentIndex < 0) return;
    const isFar = previous.current === null && currentIndex * ROW_HEIGHT > scroller.current!.clientHeight;
    virtual.scrollToIndex(position(currentIndex), { align: isFar ? "center" : "auto" }); // far: opened by a link
    previous.current = current;
  }, [current, currentIndex >= 0]);

  const items = virtual.getVirtualItems();
  const isCurrentShown = items.some(({ index }) => rows[position(index)]?.id === current);
  const lastVisible = order === "newest" ? (items.at(-1)?.index ?? 0) : rows.length - 1 - (items[0]?.index ?? 0);
  useLayoutEffect(() => {
    if (hasMore && lastVisible >= rows.length - PREFETCH_ROWS) onMore();
  }, [hasMore, lastVisible, rows.length]);

  return (
    <div
      ref={scroller}
      class="scroller"
      role="grid"
      onScroll={onScroll}
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
            const event = rows[position(index)];
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
