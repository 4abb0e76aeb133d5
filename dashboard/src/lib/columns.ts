// The columns of the list: the fields of every event, and any value of the details by its path.
import type { Event } from "../api/types";
import { asText, at, inline, type Json } from "./json";
import { table } from "./table";
import { shown, type Zone } from "./time";

export const COLUMNS = table({
  time: { title: "Time", width: "23ch" },
  severity: { title: "Severity", width: "10ch" },
  type: { title: "Type", width: "minmax(15ch, 0.3fr)" },
  source: { title: "Source", width: "minmax(10ch, 0.2fr)" },
  message: { title: "Message", width: "minmax(20ch, 2fr)" },
  created: { title: "Stored", width: "23ch" },
  id: { title: "ID", width: "18ch" },
});

export function titleOf(column: string): string {
  return COLUMNS[column]?.title ?? column.replace(/^details\./, "");
}

export function widthsOf(columns: readonly string[]): string {
  return columns.map((column) => COLUMNS[column]?.width ?? "minmax(9ch, 0.25fr)").join(" ");
}

/** Return the text of a cell. */
export function cell(event: Event, column: string, zone: Zone): string {
  switch (column) {
    case "time":
      return shown(event.timestamp, zone);
    case "severity":
      return event.severity;
    case "type":
      return event.event_type;
    case "source":
      return event.source ?? "";
    case "message":
      return event.message;
    case "created":
      return shown(event.created_at, zone);
    case "id":
      return String(event.id);
    default:
      return detail(event, column);
  }
}

function detail(event: Event, column: string): string {
  if (!column.startsWith("details.")) return ""; // an address can name any column
  const path = [...column.slice("details.".length).matchAll(/((?:\\.|[^.\\])+)/gs)];
  const value = at(event.details, path.map(([key]) => key.replaceAll(/\\(.)/gs, "$1")));
  if (value === undefined) return "";
  return asText(value as Json) ?? inline(value as Json);
}
