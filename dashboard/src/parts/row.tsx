// One row of the list. Text of events is only ever text: nothing of it becomes markup or an address.
import { memo } from "./memo";
import type { Event } from "../api/types";
import { cell } from "../lib/columns";
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

const POINTERS: Readonly<Record<string, string>> = { message: "/message", type: "/event_type", source: "/source" };

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
          <Marked text={firstLine(cell(event, column, zone))} matches={event.matches} at={POINTERS[column] ?? "-"} />
        </span>
      ))}
    </div>
  );
});

/** A row has one line; of a longer text, more than it can show would only slow it down. */
function firstLine(text: string): string {
  return text.length > 600 ? `${text.slice(0, 600)}…` : text;
}
