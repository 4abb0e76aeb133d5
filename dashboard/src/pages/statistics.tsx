// The statistics page: counts over time by a field, and the most frequent values.
import { useMemo, useState } from "preact/hooks";
import type { Params } from "../api/client";
import type { Facets, Stats } from "../api/types";
import { formatted, NO_VALUE } from "../lib/format";
import { paramsOf, parse, withTerm } from "../lib/query";
import { useResponse } from "../lib/response";
import { rangeParams, shown } from "../lib/time";
import { fragmentOf, go, view } from "../lib/view";
import { OverTime } from "../parts/overtime";
import { RangePicker } from "../parts/rangepicker";
import { SearchBox } from "../parts/searchbox";
import { Empty, Failed, Loading } from "../parts/status";

const BY: readonly (readonly [by: string, title: string])[] = [
  ["severity", "Severity"],
  ["event_type", "Type"],
  ["source", "Source"],
];
/** The parameters that exact counts can be filtered by. */
const COUNTED = new Set(["event_type", "severity", "severity_min"]);

export function StatisticsPage() {
  const { text, range, zone, by } = view.value;
  const [revision, setRevision] = useState(0);
  const query = useMemo(() => parse(text), [text]);
  const filter = paramsOf(query);
  const ends = useMemo(() => rangeParams(range), [range, revision]);
  return (
    <main class="statistics">
      <div class="bar">
        <SearchBox text={text} onText={(changed) => go({ text: changed })} />
        <RangePicker range={range} zone={zone} onRange={(changed) => go({ range: changed })} />
        <button type="button" onClick={() => setRevision(revision + 1)}>
          Refresh
        </button>
      </div>
      {query.problems.length ? (
        <Empty>Correct the search to see counts.</Empty>
      ) : (
        <div class="sheets">
          <Exact filter={filter} ends={ends} />
          <section aria-label="Over time">
            <div class="tools">
              <h2>Over time</h2>
              <label>
                Group by{" "}
                <select value={by} onChange={(change) => go({ by: change.currentTarget.value }, "replace")}>
                  {BY.map(([name, title]) => (
                    <option key={name} value={name}>
                      {title}
                    </option>
                  ))}
                </select>
              </label>
            </div>
            <OverTime params={[...filter, ...ends]} revision={revision} zone={zone} by={by} height={220} hasLegend />
          </section>
          <Values params={[...filter, ...ends]} />
        </div>
      )}
    </main>
  );
}

/** Exact counts, if the collector keeps counts for the filter. */
function Exact({ filter, ends }: { filter: Params; ends: Params }) {
  const { zone } = view.value;
  const isCounted = filter.every(([name]) => COUNTED.has(name));
  const { value, problem } = useResponse<Stats>(isCounted ? "api/events/stats" : null, [...filter, ...ends]);
  if (!isCounted) return null;
  if (problem) return <Failed problem={problem} />;
  if (!value) return <Loading text="Counting…" />;
  const last = value.last_event_timestamp;
  return (
    <dl class="numbers">
      <Figure title="Events" value={formatted(value.total_events)} />
      <Figure title="Events in the last 24 hours" value={formatted(value.recent_events)} />
      <Figure title="Types" value={typesOf(value)} />
      <Figure title="Newest event" value={last ? shown(last, zone, 0) : "None"} />
    </dl>
  );
}

/** The number of types: `1,000+` if not all of them are listed. */
function typesOf({ events_by_type, events_of_other_types }: Stats): string {
  return `${formatted(Object.keys(events_by_type).length)}${events_of_other_types ? "+" : ""}`;
}

function Figure({ title, value }: { title: string; value: string }) {
  return (
    <div>
      <dt>{title}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Values({ params }: { params: Params }) {
  const { value, problem } = useResponse<Facets>("api/events/facets", [...params, ["limit", "100"]]);
  if (problem) return <Failed problem={problem} />;
  if (!value) return <Loading text="Counting…" />;
  return (
    <div class="tables">
      <ValueTable title="Severities" field="severity" facets={value} name="severity" />
      <ValueTable title="Types" field="type" facets={value} name="event_type" />
      <ValueTable title="Sources" field="source" facets={value} name="source" />
    </div>
  );
}

interface TableProps {
  title: string;
  field: string;
  name: "severity" | "event_type" | "source";
  facets: Facets;
}

function ValueTable({ title, field, name, facets }: TableProps) {
  const facet = facets.fields[name];
  if (!facet) return null;
  const since = shown(facets.counted_from, view.value.zone, 0);
  const total = facet.values.reduce((sum, each) => sum + each.n, facet.other) || 1;
  return (
    <section aria-label={title}>
      <h2>
        {title}
        {facet.partial && <span class="dim"> since {since} (time limit reached)</span>}
      </h2>
      <table>
        <thead>
          <tr>
            <th scope="col">Value</th>
            <th scope="col" class="n">Events</th>
            <th scope="col" class="n">Share</th>
          </tr>
        </thead>
        <tbody>
          {facet.values.map(({ value, n }) => (
            <tr key={value} class={field === "severity" ? (value ?? "") : ""}>
              <td>{value === null ? NO_VALUE : <a href={eventsOf(field, value)}>{value}</a>}</td>
              <td class="n">{formatted(n)}</td>
              <td class="n">{share(n, total)}</td>
            </tr>
          ))}
          {facet.other > 0 && (
            <tr class="dim">
              <td>Other values</td>
              <td class="n">{formatted(facet.other)}</td>
              <td class="n">{share(facet.other, total)}</td>
            </tr>
          )}
        </tbody>
      </table>
      {!facet.values.length && <p class="dim">No events in this time range.</p>}
    </section>
  );
}

function share(n: number, total: number): string {
  return `${((100 * n) / total).toFixed(1)}%`;
}

function eventsOf(field: string, value: string): string {
  return fragmentOf({ ...view.value, page: "events", event: null, text: withTerm(view.value.text, field, value) });
}
