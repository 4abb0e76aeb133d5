// Moments and ranges of time. The API uses RFC 3339 in UTC with microseconds; the dashboard shows UTC or local time.

export type Zone = "utc" | "local";
export type Range = { kind: "last"; span: string } | { kind: "between"; from: string; to: string };

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };
const NAMES: Readonly<Record<string, string>> = { s: "second", m: "minute", h: "hour", d: "day" };
export const SPANS: readonly string[] = ["5m", "15m", "1h", "6h", "24h", "7d", "30d", "365d"];
export const DEFAULT_RANGE: Range = { kind: "last", span: "24h" };

/** Return the seconds of a span such as `15m`; null if it is not a span. */
export function spanSeconds(span: string): number | null {
  const [, n, unit] = /^([1-9][0-9]{0,5})([smhd])$/.exec(span) ?? [];
  return n && unit ? Number(n) * UNITS[unit]! : null;
}

export function spanName(span: string): string {
  const n = Number.parseInt(span, 10);
  return `Last ${n === 1 ? "" : `${n} `}${NAMES[span.at(-1)!]}${n === 1 ? "" : "s"}`;
}

/** Return both ends of a range; a range until now has no end. */
export function bounds(range: Range, now = Date.now()): { from: string; to: string | null } {
  if (range.kind === "between") return { from: range.from, to: range.to };
  return { from: new Date(now - spanSeconds(range.span)! * 1_000).toISOString(), to: null };
}

/** Return the same range with fixed ends. */
export function frozen(range: Range, now = Date.now()): Range {
  const { from, to } = bounds(range, now);
  return { kind: "between", from, to: to ?? new Date(now).toISOString() };
}

/** Format a moment in the zone, as `2026-01-02 23:45:12.500`, with up to 6 digits of the fraction. */
export function shown(moment: string, zone: Zone, digits = 3): string {
  if (zone === "utc") return moment.replace("T", " ").slice(0, 19) + fraction(moment, digits);
  const at = new Date(moment);
  if (Number.isNaN(at.getTime())) return moment;
  const date = [at.getFullYear(), at.getMonth() + 1, at.getDate()].map(two).join("-");
  return `${date} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":")}${fraction(moment, digits)}`;
}

function fraction(moment: string, digits: number): string {
  if (!digits) return "";
  const text = /\.([0-9]+)/.exec(moment)?.[1] ?? "";
  return `.${text.padEnd(digits, "0").slice(0, digits)}`;
}

function two(n: number): string {
  return String(n).padStart(2, "0");
}

/** Parse a date with or without a time, in the zone, or an RFC 3339 timestamp; null if it is neither. */
export function read(text: string, zone: Zone): string | null {
  const entered = text.trim().replace(" ", "T");
  if (!/^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?)?$/i.test(entered)) return null;
  const full = entered.includes("T") ? entered : `${entered}T00:00`;
  const at = new Date(/(Z|[+-]\d{2}:\d{2})$/i.test(full) || zone === "local" ? full : `${full}Z`);
  return Number.isNaN(at.getTime()) ? null : at.toISOString();
}

/** Return the name of the zone, as `UTC` or `UTC+02:00`. */
export function zoneName(zone: Zone, at = new Date()): string {
  const minutes = -at.getTimezoneOffset();
  if (zone === "utc" || minutes === 0) return zone === "utc" ? "UTC" : "Local (UTC)";
  const offset = Math.abs(minutes);
  return `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(offset / 60))}:${two(offset % 60)}`;
}

/** Return a text that sorts as the moment does. */
export function sortKey(moment: string): string {
  return moment.endsWith("Z") ? moment.slice(0, -1) : moment;
}

/** Return the next moment: a microsecond later. */
export function justAfter(moment: string): string {
  const micros = Number(fraction(moment, 6).slice(1)) + 1;
  const second = `${moment.slice(0, 19)}Z`;
  if (micros < 1_000_000) return `${moment.slice(0, 19)}.${String(micros).padStart(6, "0")}Z`;
  return new Date(Date.parse(second) + 1_000).toISOString();
}

/** Format a duration: `3 s`, `12 min`, `5.0 h`, `3 d`. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3_600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${(seconds / 3_600).toFixed(1)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** Return the parameters of a range, as of now. */
export function rangeParams(range: Range): [string, string][] {
  const { from, to } = bounds(range);
  return to === null ? [["from", from]] : [["from", from], ["to", to]];
}
