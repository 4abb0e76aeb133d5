// A virtual list for Preact: only the visible ones of thousands of rows are in the document.
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import type { RefObject } from "preact";
import { useLayoutEffect, useReducer, useRef } from "preact/hooks";

type Rows = Virtualizer<HTMLDivElement, HTMLDivElement>;

export function useVirtualRows(scroller: RefObject<HTMLDivElement | null>, count: number, rowHeight: number): Rows {
  const [, redraw] = useReducer((n: number, _: void) => n + 1, 0);
  const rows = useRef<Rows>(null);
  const options = {
    count,
    estimateSize: () => rowHeight,
    getScrollElement: () => scroller.current,
    observeElementOffset,
    observeElementRect,
    scrollToFn: elementScroll,
    overscan: 12,
    scrollPaddingEnd: rowHeight, // the sticky header covers this much of the list
    onChange: () => redraw(),
  };
  rows.current ??= new Virtualizer<HTMLDivElement, HTMLDivElement>(options);
  rows.current.setOptions(options);
  useLayoutEffect(() => rows.current!._didMount(), []);
  useLayoutEffect(() => rows.current!._willUpdate());
  return rows.current;
}
