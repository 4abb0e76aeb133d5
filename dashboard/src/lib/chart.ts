// Draws counts over time as stacked bars, by uPlot.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Histogram as Counts } from "../api/types";
import { colourOf, palette } from "./colours";
import { shown, type Zone } from "./time";

const LEAST_DRAG = 4; // px

export interface Chart {
  counts: Counts;
  zone: Zone;
  height: number;
  onRange: (from: string, to: string) => void;
}

export function chart(element: HTMLElement, drawn: Chart): uPlot {
  const { counts, zone, height } = drawn;
  const rows = stacked(counts);
  const starts = counts.starts.map((start) => Date.parse(start) / 1_000);
  const end = (starts.at(-1) ?? 0) + counts.step_s;
  const options: uPlot.Options = {
    width: element.clientWidth || 600,
    height,
    padding: [20, 20, 0, 0],
    legend: { show: false },
    tzDate: (seconds) => {
      const at = new Date(seconds * 1_000);
      return zone === "utc" ? uPlot.tzDate(at, "Etc/UTC") : at;
    },
    scales: {
      x: { time: true, range: () => [starts[0] ?? 0, end] },
      y: { range: (_plot, _least, most) => [0, most || 1] },
    },
    axes: axes(),
    cursor: { drag: { x: true, y: false, setScale: false }, points: { show: false }, y: false },
    series: [{}, ...rows.map(({ name, index }) => bars(name, index))],
    plugins: [tooltip(counts, zone)],
    hooks: { setSelect: [(plot) => take(plot, drawn.onRange)] },
  };
  return new uPlot(options, [starts, ...rows.map((row) => row.sums)] as uPlot.AlignedData, element);
}

interface Row {
  name: string;
  index: number;
  sums: number[];
}

/** Sums from the bottom up, the highest first: each bar is drawn over the one behind it. */
function stacked(counts: Counts): Row[] {
  const rows = counts.series.map((series, index) => ({ name: series.value ?? "none", index, counts: series.counts }));
  if (counts.other.total) rows.push({ name: "other", index: rows.length, counts: counts.other.counts });
  const sums = counts.starts.map(() => 0);
  return rows
    .map(({ name, index, counts: own }) => ({ name, index, sums: own.map((n, place) => (sums[place]! += n)) }))
    .reverse();
}

function bars(name: string, index: number): uPlot.Series {
  const colour = colourOf(name, index);
  const paths = uPlot.paths.bars!({ size: [0.85, 60], align: 1 });
  return { label: name, fill: colour, stroke: colour, width: 0, paths, points: { show: false } };
}

function axes(): uPlot.Axis[] {
  const ink = palette();
  const grid = { stroke: ink.line, width: 1 };
  const axis: uPlot.Axis = { stroke: ink.dim, grid, ticks: { show: false }, font: "11px system-ui" };
  return [
    { ...axis, size: 22, values: TIMES },
    {
      ...axis,
      size: 44,
      splits: (_plot, _axis, _least, most) => [0, most],
      values: (_plot, values) => values.map(short),
    },
  ];
}

/** Times; a date where a day begins. Each row: from which step on, the format, that at a new year, month, day, …, mode. */
const TIMES = [
  [86_400, "{MM}-{DD}", null, null, null, null, null, null, 0],
  [60, "{HH}:{mm}", null, null, "{MM}-{DD}", null, null, null, 0],
  [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 0],
] as unknown as uPlot.Axis.Values;

function short(n: number): string {
  return Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(n);
}

/** Tell the range that was dragged over. */
function take(plot: uPlot, onRange: Chart["onRange"]): void {
  const { left, width } = plot.select;
  if (width < LEAST_DRAG) return;
  plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  onRange(moment(plot.posToVal(left, "x")), moment(plot.posToVal(left + width, "x")));
}

function moment(seconds: number): string {
  return new Date(Math.round(seconds * 1_000)).toISOString();
}

/** Names what stands in the bucket under the pointer. */
function tooltip(counts: Counts, zone: Zone): uPlot.Plugin {
  const box = document.createElement("div");
  box.className = "tip";
  const place = (plot: uPlot): void => {
    const index = bucketAt(plot, counts);
    box.hidden = index === null;
    if (index === null) return;
    box.textContent = [shown(counts.starts[index]!, zone, 0), ...inBucket(counts, index)].join("\n");
    const [x, width] = [plot.cursor.left!, plot.over.clientWidth];
    box.style.left = x > width / 2 ? "" : `${x + 12}px`;
    box.style.right = x > width / 2 ? `${width - x + 12}px` : "";
  };
  return { hooks: { init: (plot) => void plot.over.append(box), setCursor: place } };
}

function bucketAt(plot: uPlot, counts: Counts): number | null {
  const left = plot.cursor.left ?? -1;
  if (left < 0 || !counts.starts.length) return null;
  const since = plot.posToVal(left, "x") - Date.parse(counts.starts[0]!) / 1_000;
  const index = Math.floor(since / counts.step_s);
  return index >= 0 && index < counts.starts.length ? index : null;
}

function inBucket(counts: Counts, index: number): string[] {
  const all = [...counts.series, { value: "other", counts: counts.other.counts }];
  const there = all.filter((series) => series.counts[index]);
  const lines = there.map((series) => `${series.value ?? "none"} ${series.counts[index]!.toLocaleString("en")}`);
  return lines.length ? lines : ["no events"];
}
