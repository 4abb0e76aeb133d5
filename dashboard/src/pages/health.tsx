// The health page: the collector's readiness and metrics, events dropped by SDKs, and the collector's own warnings.
import { useMemo } from "preact/hooks";
import type { Params } from "../api/client";
import type { Event } from "../api/types";
import { type Card, cardsOf } from "../lib/cards";
import { NO_VALUE } from "../lib/format";
import { useResponse, useTicks } from "../lib/response";
import { type Snapshot, useSnapshot } from "../lib/snapshot";
import { shown } from "../lib/time";
import { fragmentOf, view } from "../lib/view";
import { Failed, Loading } from "../parts/status";

const INTERVAL_S = 5;
const TICKS_PER_LIST = 6;
const DAY_MS = 86_400_000;

export function HealthPage() {
  const ticks = useTicks(INTERVAL_S);
  const snapshot = useSnapshot(ticks);
  const { zone } = view.value;
  if (!snapshot) return <Loading />;
  const isReady = snapshot.problem === null && snapshot.readiness?.status === "ready";
  return (
    <main class="health">
      <div class={`verdict ${isReady ? "good" : "bad"}`} role="status">
        <h2>{headlineOf(snapshot)}</h2>
        {snapshot.readiness?.reasons.map((reason) => <p key={reason}>{reason}</p>)}
        {snapshot.problem && <p>{snapshot.problem.message}</p>}
        <p class="dim">
          Last checked {shown(snapshot.at, zone, 0)}
          {snapshot.problem && snapshot.samples && ". The values below are from the last successful check."}
        </p>
      </div>
      <div class="cards">
        {snapshot.samples && cardsOf(snapshot.samples).map((card) => <CardView key={card.title} {...card} />)}
      </div>
      <RecentEvents revision={Math.floor(ticks / TICKS_PER_LIST)} />
    </main>
  );
}

function headlineOf({ problem, readiness }: Snapshot): string {
  if (problem) return problem.status === 0 ? "Unreachable" : "Status not available";
  return readiness?.status === "ready" ? "Ready" : "Not ready";
}

function CardView({ title, facts }: Card) {
  return (
    <section class="card" aria-label={title}>
      <h2>{title}</h2>
      <dl>
        {facts.map(({ name, value, verdict }) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd class={verdict}>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function RecentEvents({ revision }: { revision: number }) {
  const from = useMemo(() => new Date(Date.now() - DAY_MS).toISOString(), [revision]);
  return (
    <div class="tables">
      <Recent
        title="Dropped by SDKs"
        description="Events that applications lost before they reached the collector, as reported by their SDKs."
        text="type:sdk_report"
        params={[["event_type", "sdk_report"], ["from", from], ["limit", "50"]]}
        message={droppedMessage}
      />
      <Recent
        title="Collector warnings"
        description="The collector's own events with severity warning or higher."
        text="source:collector severity_min:warning"
        params={[["source", "collector"], ["severity_min", "warning"], ["from", from], ["limit", "50"]]}
        message={(event) => event.message}
      />
    </div>
  );
}

interface RecentProps {
  title: string;
  description: string;
  text: string;
  params: Params;
  message: (event: Event) => string;
}

function Recent({ title, description, text, params, message }: RecentProps) {
  const { value, problem } = useResponse<Event[]>("api/events", params);
  const { zone } = view.value;
  const all = fragmentOf({ ...view.value, page: "events", event: null, text, range: { kind: "last", span: "24h" } });
  return (
    <section aria-label={title}>
      <h2>
        {title} <a href={all}>View all</a>
      </h2>
      <p class="dim">{description}</p>
      {problem && <Failed problem={problem} />}
      {!value && !problem && <Loading />}
      {value && !value.length && <p class="good">None in the last 24 hours.</p>}
      {value && value.length > 0 && (
        <table>
          <thead>
            <tr>
              <th scope="col">Time</th>
              <th scope="col">Source</th>
              <th scope="col">Message</th>
            </tr>
          </thead>
          <tbody>
            {value.map((event) => (
              <tr key={event.id} class={event.severity}>
                <td>{shown(event.timestamp, zone, 0)}</td>
                <td>{event.source ?? NO_VALUE}</td>
                <td>{message(event)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

/** `120 events were dropped: disk 20, memory 100`. */
function droppedMessage(event: Event): string {
  const reasons = Object.entries((event.details as { dropped?: Record<string, unknown> } | null)?.dropped ?? {});
  return `${event.message}${reasons.length ? `: ${reasons.map(([reason, n]) => `${reason} ${n}`).join(", ")}` : ""}`;
}
