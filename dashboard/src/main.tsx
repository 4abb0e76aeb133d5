// The page: the newest events, and a form for the API key where one is needed.
import { render } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";
import "./style.css";

interface Event {
  id: number;
  timestamp: string;
  severity: "info" | "warning" | "error" | "critical";
  event_type: string;
  source: string | null;
  message: string;
}

type State =
  | { name: "loading" }
  | { name: "failed"; why: string }
  | { name: "locked"; why: string }
  | { name: "listed"; events: Event[] };

const LIMIT = 200;

async function problem(answer: Response): Promise<string> {
  try {
    return ((await answer.json()) as { detail: string }).detail;
  } catch {
    return `the collector answered ${answer.status}`;
  }
}

async function newest(): Promise<State> {
  try {
    const answer = await fetch(`api/events?limit=${LIMIT}`);
    if (answer.status === 401) return { name: "locked", why: "" };
    if (!answer.ok) return { name: "failed", why: await problem(answer) };
    return { name: "listed", events: (await answer.json()) as Event[] };
  } catch {
    return { name: "failed", why: "the collector does not answer" };
  }
}

async function begin(key: string): Promise<State> {
  try {
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch("api/session", { method: "POST", headers, body: JSON.stringify({ key }) });
    return answer.ok ? await newest() : { name: "locked", why: await problem(answer) };
  } catch {
    return { name: "failed", why: "the collector does not answer" };
  }
}

function KeyForm({ why, onKey }: { why: string; onKey: (key: string) => void }) {
  const [key, setKey] = useState("");
  return (
    <form onSubmit={(submitted) => (submitted.preventDefault(), onKey(key))}>
      <label for="key">API key with the scope read</label>
      <input id="key" type="password" autocomplete="off" required value={key} onInput={(it) => setKey(it.currentTarget.value)} />
      <button>Open</button>
      {why && <p role="alert">{why}</p>}
    </form>
  );
}

function Table({ events }: { events: Event[] }) {
  if (!events.length) return <p>There are no events yet.</p>;
  return (
    <table>
      <thead>
        <tr>{["Time (UTC)", "Severity", "Type", "Source", "Message"].map((name) => <th scope="col" key={name}>{name}</th>)}</tr>
      </thead>
      <tbody>
        {events.map((event) => (
          <tr key={event.id} class={event.severity}>
            <td><a href={`api/events/${event.id}`}>{event.timestamp.replace("T", " ").replace("Z", "")}</a></td>
            <td>{event.severity}</td>
            <td>{event.event_type}</td>
            <td>{event.source}</td>
            <td>{event.message}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Page() {
  const [state, setState] = useState<State>({ name: "loading" });
  const load = useCallback(() => void newest().then(setState), []);
  useEffect(load, [load]);
  return (
    <main>
      <header>
        <h1>brain-events</h1>
        <p>The newest {LIMIT} events</p>
        <button onClick={load}>Refresh</button>
        <a href="docs">API</a>
      </header>
      {state.name === "loading" && <p>Loading…</p>}
      {state.name === "failed" && <p role="alert">{state.why}</p>}
      {state.name === "locked" && <KeyForm why={state.why} onKey={(key) => void begin(key).then(setState)} />}
      {state.name === "listed" && <Table events={state.events} />}
    </main>
  );
}

const root = document.getElementById("app");
if (root) render(<Page />, root);
