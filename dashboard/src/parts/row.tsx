// One row of the list. The content of events is shown as text only: it never becomes markup or a URL.
import { memo } from "./memo";
import type { Event } from "../api/types";
import { cell } from "../lib/columns";
import { table } from "../lib/table";
import type { Zone } from "../lib/time";
import { Marked } from "./marked";

interface Props {
  event: Event;
  index: number;
  top: number;
  columns: readonly string[];
  zone: Zone;
  isCurrent: boolean;
  isOpen: boolean;
  onOpen: (event: Event) => void;
}

const POINTERS = table({ message: "/message", type: "/event_type", source: "/source" });

export const Row = memo(function Row({ event, index, top, columns, zone, isCurrent, isOpen, onOpen }: Props) {
  return (
    <div
      id={`event-${event.id}`}
      data-id={event.id}
      role="row"
      aria-rowindex={index + 2}
      aria-selected={isOpen}
      class={`row ${event.severity}${isCurrent ? " current" : ""}`}
      style={{ transform: `translateY(${top}px)` }}
      onClick={() => onOpen(event)}
    >
      {columns.map((column) => (
        <span key={column} role="gridcell" class={`cell ${column.startsWith("details.") ? "details" : column}`}>
          <Marked text={shortened(cell(event, column, zone))} matches={event.matches} at={POINTERS[column] ?? "-"} />
        </span>
      ))}
    </div>
  );
});

/** Cut long text: a row is one line high, and text that does not fit would slow down rendering. */
function shortened(text: string): string {
  return text.length > 600 ? `${text.slice(0, 600)}…` : text;
}
