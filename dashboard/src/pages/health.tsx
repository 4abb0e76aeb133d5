// How the collector is: itself, its database and cache, what it takes in, and what applications lost on the way.
import { useMemo } from "preact/hooks";
import type { Params } from "../api/client";
import type { Event } from "../api/types";
import { useAnswer, useTicks } from "../lib/answer";
import { cardsOf, type Card } from "../lib/condition";
import { type Look, useLook } from "../lib/polled";
import { shown } from "../lib/time";
import { fragmentOf, view } from "../lib/view";
import { Failed, Loading } from "../parts/status";

const EVERY_S = 5;
const TICKS_PER_LIST = 6;
const DAY_MS = 86_400_000;

export function HealthPage() {
  const ticks = useTicks(EVERY_S);
  const look = useLook(ticks);
  const { zone } = view.value;
  if (!look) return <Loading what="Asking the collector…" />;
  const isReady = look.problem === null && look.readiness?.status === "ready";
  return (
    <main class="health">
      <div class={`verdict ${isReady ? "good" : "bad"}`} role="status">
        <h2>{wordsOf(look)}</h2>
        {look.readiness?.reasons.map((reason) => <p key={reason}>{reason}</p>)}
        {look.problem && <p>{look.problem.message}</p>}
        <p class="dim">as of {shown(look.at, zone, 0)}</p>
      </div>
      <div class="cards">
        {look.samples && cardsOf(look.samples).map((card) => <CardView key={card.title} {...card} />)}
      </div>
      <Lists again={Math.floor(ticks / TICKS_PER_LIST)} />
    </main>
  );
}

function wordsOf({ problem, readiness }: Look): string {
  if (problem) return problem.status === 0 ? "The collector is away" : "The collector cannot be looked at";
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

function Lists({ again }: { again: number }) {
  const from = useMemo(() => new Date(Date.now() - DAY_MS).toISOString(), [again]);
  return (
    <div class="tables">
      <Recent
        title="Dropped by SDKs"
        what="Events that applications lost before they reached the collector, as their SDKs report it."
        text="type:sdk_report"
        params={[["event_type", "sdk_report"], ["from", from], ["limit", "50"]]}
        cell={(event) => dropped(event)}
      />
      <Recent
        title="Warnings of the collector"
        what="Its own events of the last 24 hours, from warnings up."
        text="source:collector severity_min:warning"
        params={[["source", "collector"], ["severity_min", "warning"], ["from", from], ["limit", "50"]]}
        cell={(event) => event.message}
      />
    </div>
  );
}

interface RecentProps {
  title: string;
  what: string;
  text: string;
  params: Params;
  cell: (event: Event) => string;
}

function Recent({ title, what, text, params, cell }: RecentProps) {
  const { value, problem } = useAnswer<Event[]>("api/events", params);
  const { zone } = view.value;
  const all = fragmentOf({ ...view.value, page: "events", event: null, text, range: { kind: "last", span: "24h" } });
  return (
    <section aria-label={title}>
      <h2>
        {title} <a href={all}>all</a>
      </h2>
      <p class="dim">{what}</p>
      {problem && <Failed problem={problem} />}
      {!value && !problem && <Loading />}
      {value && !value.length && <p class="good">None in the last 24 hours.</p>}
      {value && value.length > 0 && (
        <table>
          <thead>
            <tr>
              <th scope="col">time</th>
              <th scope="col">source</th>
              <th scope="col">what</th>
            </tr>
          </thead>
          <tbody>
            {value.map((event) => (
              <tr key={event.id} class={event.severity}>
                <td>{shown(event.timestamp, zone, 0)}</td>
                <td>{event.source ?? "(none)"}</td>
                <td>{cell(event)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

/** `120 events were dropped: disk 20, memory 100`. */
function dropped(event: Event): string {
  const reasons = Object.entries((event.details as { dropped?: Record<string, unknown> } | null)?.dropped ?? {});
  return `${event.message}${reasons.length ? `: ${reasons.map(([reason, n]) => `${reason} ${n}`).join(", ")}` : ""}`;
}
