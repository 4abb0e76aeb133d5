// What the collector's metrics say, in the words and with the judgement of docs/metrics.md ("worth an alarm").
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

const LATE_FOLD_S = 60;
const FEW_DAYS = 2;
const LITTLE_DISK = 0.1;

export function cardsOf(samples: Samples): Card[] {
  const of: Of = (name, labels) => sum(samples, `brain_collector_${name}`, labels);
  const cards: Card[] = [
    { title: "Database", facts: [upFact(of("database_up")), ...databaseFacts(of)] },
    { title: "Cache", facts: [upFact(of("cache_up")), hits(of)] },
    { title: "Canary", facts: canaryFacts(of) },
    { title: "Intake", facts: intakeFacts(of) },
    { title: "Process", facts: processFacts(samples) },
  ];
  const engines = samples.get("brain_collector_engine_up") ?? [];
  const names = engines.map((each) => each.labels["engine"]!);
  if (names.length) cards.splice(2, 0, { title: "Engines", facts: engineFacts(names, of) });
  return cards.map(({ title, facts }) => ({ title, facts: facts.filter((each) => each.value !== "") }));
}

type Of = (name: string, labels?: Record<string, string>) => number | null;

function fact(name: string, value: string | null, verdict: Verdict = ""): Fact {
  return { name, value: value ?? "", verdict };
}

function upFact(up: number | null): Fact {
  return up === null ? fact("state", "not known") : fact("state", up ? "up" : "down", up ? "good" : "bad");
}

function databaseFacts(of: Of): Fact[] {
  const [used, limit] = [of("read_connections"), of("read_connections_limit")];
  const [lag, days] = [of("fold_lag_seconds"), of("partition_days_ahead")];
  return [
    fact("read connections", used === null ? null : `${used} of ${limit}`, used === limit ? "watch" : ""),
    fact("counts folded", lag === null ? null : `${duration(lag)} ago`, lag !== null && lag > LATE_FOLD_S ? "bad" : ""),
    fact("days made ahead", number(days), days !== null && days < FEW_DAYS ? "bad" : ""),
    fact("disk free", ...disk(of("data_dir_free_bytes"), of("data_dir_size_bytes"))),
  ];
}

function disk(free: number | null, size: number | null): [string | null, Verdict] {
  if (free === null) return [null, ""];
  return [`${bytes(free)}${size ? ` of ${bytes(size)}` : ""}`, size && free / size < LITTLE_DISK ? "watch" : ""];
}

function hits(of: Of): Fact {
  const [all, found] = [of("cache_requests_total"), of("cache_requests_total", { result: "hit" })];
  return fact("hits", all ? `${((100 * (found ?? 0)) / all).toFixed(0)} % of ${number(all)}` : "none asked");
}

function engineFacts(names: string[], of: Of): Fact[] {
  return names.map((engine) => {
    const restarts = of("engine_restarts_total", { engine }) ?? 0;
    const isUp = of("engine_up", { engine }) === 1;
    const verdict = !isUp ? "bad" : restarts ? "watch" : "good";
    return fact(engine, (isUp ? "runs" : "down") + (restarts ? `, ${restarts} restarts` : ""), verdict);
  });
}

function canaryFacts(of: Of): Fact[] {
  const result = (name: string): number => of("canary_events_total", { result: name }) ?? 0;
  const [lost, doubled] = [result("acked_not_found"), result("doubled")];
  return [
    fact("read back", number(result("found"))),
    fact("lost", number(lost), lost ? "bad" : "good"),
    fact("stored twice", number(doubled), doubled ? "bad" : "good"),
    fact("checks", number(of("canary_checks_total") ?? 0)),
  ];
}

function intakeFacts(of: Of): Fact[] {
  const count = (name: string): number => of(name) ?? 0;
  const [rejected, waiting] = [count("events_rejected_total"), count("own_events_waiting")];
  const dropped = count("own_events_dropped_total");
  return [
    fact("accepted", number(of("events_accepted_total"))),
    fact("rejected", number(rejected), rejected ? "watch" : ""),
    fact("sent again", number(of("duplicates_total"))),
    fact("waiting for a writer", number(of("writer_queue"))),
    fact("bytes at work", bytes(of("pending_bytes") ?? 0)),
    fact("own events waiting", number(waiting), waiting ? "watch" : ""),
    fact("own events dropped", number(dropped), dropped ? "bad" : ""),
  ];
}

function processFacts(samples: Samples): Fact[] {
  const build = samples.get("brain_collector_build_info")?.[0]?.labels ?? {};
  const own = (name: string): number | null => sum(samples, `process_${name}`);
  const [since, memory, cpu] = [own("start_time_seconds"), own("resident_memory_bytes"), own("cpu_seconds_total")];
  return [
    fact("version", build["version"] ?? null),
    fact("Python", build["python"] ?? null),
    fact("up for", since ? duration(Date.now() / 1_000 - since) : null),
    fact("memory", memory ? bytes(memory) : null),
    fact("CPU time", cpu ? duration(cpu) : null),
  ];
}

function number(n: number | null): string | null {
  return n === null ? null : n.toLocaleString("en");
}

function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = n < 1 ? 0 : Math.min(Math.floor(Math.log2(n) / 10), units.length - 1);
  return `${(n / 1_024 ** power).toFixed(power && n / 1_024 ** power < 10 ? 1 : 0)} ${units[power]}`;
}
