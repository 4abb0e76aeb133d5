// One event in full, beside the list.
import { useEffect, useState } from "preact/hooks";
import { Problem, request, session } from "../api/client";
import { asProblem } from "../lib/answer";
import { copy, NO_CLIPBOARD } from "../lib/copy";
import { type Json, parseExactly, pretty } from "../lib/json";
import { shown, type Zone } from "../lib/time";
import { JsonTree, type TreeActions } from "./jsontree";
import { Marked } from "./marked";
import { Failed, Loading } from "./status";
import { tell } from "./toast";

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
        <button type="button" onClick={onClose} aria-label="Close the event" title="Close (Esc)">
          ×
        </button>
      </div>
      {problem && <Failed problem={problem} />}
      {!event && !problem && <Loading />}
      {event && (
        <>
          <div class="buttons">
            <button type="button" onClick={() => void copied(pretty(event), "The event")}>
              Copy JSON
            </button>
            <button type="button" onClick={() => void copied(curlOf(id), "The command")}>
              Copy curl
            </button>
            <button type="button" onClick={() => onContext(event.timestamp)} title="All events around this one">
              Show in context
            </button>
          </div>
          <p class="message">
            <Marked text={event.message} matches={actions.matches} at="/message" />
          </p>
          <dl class="fields">
            <Field name="time" value={shown(event.timestamp, zone, 6)} />
            <Field name="severity" value={event["severity"]} onFilter={actions.onFilter} />
            <Field name="type" value={event["event_type"]} onFilter={actions.onFilter} />
            <Field name="source" value={event["source"]} onFilter={actions.onFilter} />
            <Field name="stored" value={shown(event.created_at, zone, 6)} />
          </dl>
          <h3>Details</h3>
          {isFull(event.details) ? <JsonTree value={event.details} {...actions} /> : <p class="dim">none</p>}
        </>
      )}
    </aside>
  );
}

interface FieldProps {
  name: string;
  value: Json | undefined;
  onFilter?: TreeActions["onFilter"];
}

function Field({ name, value, onFilter }: FieldProps) {
  const text = typeof value === "string" ? value : "";
  return (
    <div>
      <dt>{name}</dt>
      <dd class={name === "severity" ? text : ""}>
        <span class="value">{text || "none"}</span>
        {onFilter && text && (
          <span class="actions">
            <button type="button" aria-label={`Filter by ${name}`} onClick={() => onFilter(name, text)}>
              filter
            </button>
          </span>
        )}
      </dd>
    </div>
  );
}

function isFull(details: Json): boolean {
  return details !== null && typeof details === "object" && Object.keys(details).length > 0;
}

/** The event as it is stored now, its numbers exact; the one before stays until it is there. */
function useEvent(id: string): [Fields | null, Problem | null] {
  const [found, setFound] = useState<[Fields | null, Problem | null]>([null, null]);
  useEffect(() => {
    const stop = new AbortController();
    request(`api/events/${id}`, { signal: stop.signal })
      .then((answer) => answer.text())
      .then((text) => setFound([parseExactly(text) as Fields, null]))
      .catch((error: unknown) => stop.signal.aborted || setFound([null, asProblem(error)]));
    return () => stop.abort();
  }, [id]);
  return found;
}

function curlOf(id: string): string {
  const url = new URL(`api/events/${id}`, document.baseURI).href;
  const needsKey = session.value?.caller !== "open";
  return `curl ${needsKey ? '-H "Authorization: Bearer $BRAIN_EVENTS_API_KEY" ' : ""}'${url}'`;
}

async function copied(text: string, what: string): Promise<void> {
  tell((await copy(text)) ? `${what} is on the clipboard.` : NO_CLIPBOARD);
}
