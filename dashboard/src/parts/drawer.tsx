// One event with all its fields, beside the list.
import { useEffect, useState } from "preact/hooks";
import { Problem, request, session } from "../api/client";
import { CANNOT_COPY, copy } from "../lib/copy";
import { NO_VALUE } from "../lib/format";
import { type Json, parseExactly, pretty } from "../lib/json";
import { asProblem } from "../lib/response";
import { shown, type Zone } from "../lib/time";
import { JsonTree, type TreeActions } from "./jsontree";
import { Marked } from "./marked";
import { Failed, Loading } from "./status";
import { showToast } from "./toast";

interface Props extends TreeActions {
  id: string;
  zone: Zone;
  onContext: (moment: string) => void;
  onClose: () => void;
}

type Fields = { [key: string]: Json } & { timestamp: string; created_at: string; message: string; details: Json };

export function Drawer({ id, zone, onContext, onClose, ...actions }: Props) {
  const [event, problem] = useEvent(id);
  return (
    <aside class="drawer" aria-label={`Event ${id}`}>
      <div class="drawer-head">
        <h2>Event {id}</h2>
        <button type="button" onClick={onClose} aria-label="Close event" title="Close (Esc)">
          ×
        </button>
      </div>
      {problem && <Failed problem={problem} />}
      {!event && !problem && <Loading />}
      {event && (
        <>
          <div class="buttons">
            <button type="button" onClick={() => void copyAndReport(pretty(event), "Event copied.")}>
              Copy JSON
            </button>
            <button type="button" onClick={() => void copyAndReport(curlOf(id), "Command copied.")}>
              Copy curl
            </button>
            <button type="button" onClick={() => onContext(event.timestamp)} title="Show all events around this one">
              Show in context
            </button>
          </div>
          <p class="message">
            <Marked text={event.message} matches={actions.matches} at="/message" />
          </p>
          <dl class="fields">
            <Field title="Time" value={shown(event.timestamp, zone, 6)} />
            <Field title="Severity" field="severity" value={event["severity"]} onFilter={actions.onFilter} />
            <Field title="Type" field="type" value={event["event_type"]} onFilter={actions.onFilter} />
            <Field title="Source" field="source" value={event["source"]} onFilter={actions.onFilter} />
            <Field title="Stored" value={shown(event.created_at, zone, 6)} />
          </dl>
          <h3>Details</h3>
          {hasEntries(event.details) ? <JsonTree value={event.details} {...actions} /> : <p class="dim">No details</p>}
        </>
      )}
    </aside>
  );
}

interface FieldProps {
  title: string;
  value: Json | undefined;
  /** The search field that filters by the value. */
  field?: string;
  onFilter?: TreeActions["onFilter"];
}

function Field({ title, value, field, onFilter }: FieldProps) {
  const text = typeof value === "string" ? value : "";
  return (
    <div>
      <dt>{title}</dt>
      <dd class={field === "severity" ? text : ""}>
        <span class="value">{text || NO_VALUE}</span>
        {field && onFilter && text && (
          <span class="actions">
            <button type="button" aria-label={`Filter by ${field}`} onClick={() => onFilter(field, text)}>
              Filter
            </button>
          </span>
        )}
      </dd>
    </div>
  );
}

function hasEntries(details: Json): boolean {
  return details !== null && typeof details === "object" && Object.keys(details).length > 0;
}

/** Load the event, with exact numbers; the previous event stays until it has arrived. */
function useEvent(id: string): [Fields | null, Problem | null] {
  const [state, setState] = useState<[Fields | null, Problem | null]>([null, null]);
  useEffect(() => {
    const stop = new AbortController();
    request(`api/events/${id}`, { signal: stop.signal })
      .then((response) => response.text())
      .then((text) => setState([parseExactly(text) as Fields, null]))
      .catch((error: unknown) => stop.signal.aborted || setState([null, asProblem(error)]));
    return () => stop.abort();
  }, [id]);
  return state;
}

function curlOf(id: string): string {
  const url = new URL(`api/events/${id}`, document.baseURI).href;
  const needsKey = session.value?.caller !== "open";
  return `curl ${needsKey ? '-H "Authorization: Bearer $BRAIN_EVENTS_API_KEY" ' : ""}'${url}'`;
}

async function copyAndReport(text: string, success: string): Promise<void> {
  showToast((await copy(text)) ? success : CANNOT_COPY);
}
