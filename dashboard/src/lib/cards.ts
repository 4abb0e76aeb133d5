// The cards of the health page: metrics, and whether each is a reason for concern. The thresholds are those that
// docs/reference/metrics.md recommends for alerts.
import { formatted, plural } from "./format";
import { type Samples, sum } from "./prometheus";
import { duration } from "./time";

export type Verdict = "good" | "watch" | "bad" | "";

export interface Fact {
  name: string;
  value: string;
  verdict: Verdict;
}

export interface Card {
  title: string;
  facts: Fact[];
}

const MAX_FOLD_LAG_S = 60;
const MIN_DAYS_AHEAD = 2;
const DAY_S = 86_400;
const MIN_FREE_SHARE = 0.1;

export function cardsOf(samples: Samples): Card[] {
  const metric: MetricReader = (name, labels) => sum(samples, `brain_collector_${name}`, labels);
  const cards: Card[] = [
    { title: "Database", facts: [stateFact(metric("database_up")), ...databaseFacts(metric)] },
    { title: "Cache", facts: [stateFact(metric("cache_up")), ...cacheFacts(metric)] },
    { title: "Canary", facts: canaryFacts(metric) },
    { title: "Ingest", facts: ingestFacts(metric) },
    { title: "Process", facts: processFacts(samples) },
  ];
  const engines = samples.get("brain_collector_engine_up") ?? [];
  const names = engines.map((each) => each.labels["engine"]!);
  if (names.length) cards.splice(2, 0, { title: "Engines", facts: engineFacts(names, metric) });
  return cards.map(({ title, facts }) => ({ title, facts: facts.filter((each) => each.value !== "") }));
}

/** Reads one metric; null if it is absent. */
type MetricReader = (name: string, labels?: Record<string, string>) => number | null;

function fact(name: string, value: string | null, verdict: Verdict = ""): Fact {
  return { name, value: value ?? "", verdict };
}

function stateFact(up: number | null): Fact {
  return up === null ? fact("State", "unknown") : fact("State", up ? "up" : "down", up ? "good" : "bad");
}

function databaseFacts(metric: MetricReader): Fact[] {
  const [used, limit] = [metric("read_connections"), metric("read_connections_limit")];
  const [lag, ahead] = [metric("fold_lag_seconds"), metric("partition_ahead_seconds")];
  const days = ahead === null ? null : Math.floor(ahead / DAY_S);
  const [isLate, isShort] = [lag !== null && lag > MAX_FOLD_LAG_S, days !== null && days < MIN_DAYS_AHEAD];
  return [
    fact("Read connections", used === null ? null : `${used} of ${limit}`, used === limit ? "watch" : ""),
    fact("Counts folded", lag === null ? null : `${duration(lag)} ago`, isLate ? "bad" : ""),
    fact("Partitions ahead", days === null ? null : plural(days, "day"), isShort ? "bad" : ""),
    fact("Free disk", ...disk(metric("data_dir_free_bytes"), metric("data_dir_size_bytes"))),
  ];
}

function disk(free: number | null, size: number | null): [string | null, Verdict] {
  if (free === null) return [null, ""];
  return [`${bytes(free)}${size ? ` of ${bytes(size)}` : ""}`, size && free / size < MIN_FREE_SHARE ? "watch" : ""];
}

function cacheFacts(metric: MetricReader): Fact[] {
  const lookups = metric("cache_requests_total");
  const hits = metric("cache_requests_total", { result: "hit" }) ?? 0;
  return [
    fact("Lookups", number(lookups ?? 0)),
    fact("Hit rate", lookups ? `${((100 * hits) / lookups).toFixed(0)}%` : null),
  ];
}

function engineFacts(names: string[], metric: MetricReader): Fact[] {
  return names.map((engine) => {
    const restarts = metric("engine_restarts_total", { engine }) ?? 0;
    const isUp = metric("engine_up", { engine }) === 1;
    const verdict = !isUp ? "bad" : restarts ? "watch" : "good";
    const title = engine.charAt(0).toUpperCase() + engine.slice(1);
    return fact(title, (isUp ? "running" : "down") + (restarts ? `, ${plural(restarts, "restart")}` : ""), verdict);
  });
}

function canaryFacts(metric: MetricReader): Fact[] {
  const events = (result: string): number => metric("canary_events_total", { result }) ?? 0;
  const [lost, doubled] = [events("acked_not_found"), events("doubled")];
  return [
    fact("Read back", number(events("found"))),
    fact("Lost", number(lost), lost ? "bad" : "good"),
    fact("Stored twice", number(doubled), doubled ? "bad" : "good"),
    fact("Checks", number(metric("canary_checks_total") ?? 0)),
  ];
}

function ingestFacts(metric: MetricReader): Fact[] {
  const count = (name: string): number => metric(name) ?? 0;
  const [rejected, waiting] = [count("events_rejected_total"), count("own_events_waiting")];
  const dropped = count("own_events_dropped_total");
  return [
    fact("Accepted events", number(metric("events_accepted_total"))),
    fact("Rejected events", number(rejected), rejected ? "watch" : ""),
    fact("Duplicate requests", number(metric("duplicates_total"))),
    fact("Waiting for a writer", number(metric("writer_queue"))),
    fact("Bytes in progress", bytes(metric("pending_bytes") ?? 0)),
    fact("Own events waiting", number(waiting), waiting ? "watch" : ""),
    fact("Own events dropped", number(dropped), dropped ? "bad" : ""),
  ];
}

function processFacts(samples: Samples): Fact[] {
  const build = samples.get("brain_collector_build_info")?.[0]?.labels ?? {};
  const metric: MetricReader = (name) => sum(samples, `process_${name}`);
  const [started, memory] = [metric("start_time_seconds"), metric("resident_memory_bytes")];
  const cpu = metric("cpu_seconds_total");
  return [
    fact("Version", build["version"] ?? null),
    fact("Python", build["python"] ?? null),
    fact("Uptime", started ? duration(Date.now() / 1_000 - started) : null),
    fact("Memory", memory ? bytes(memory) : null),
    fact("CPU time", cpu ? duration(cpu) : null),
  ];
}

function number(n: number | null): string | null {
  return n === null ? null : formatted(n);
}

function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = n < 1 ? 0 : Math.min(Math.floor(Math.log2(n) / 10), units.length - 1);
  return `${(n / 1_024 ** power).toFixed(power && n / 1_024 ** power < 10 ? 1 : 0)} ${units[power]}`;
}
