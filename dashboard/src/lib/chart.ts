// Draws counts over time as stacked bars, with uPlot.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Histogram as Counts } from "../api/types";
import { colourOf, palette } from "./colours";
import { formatted, NO_VALUE } from "./format";
import { shown, type Zone } from "./time";

const MIN_DRAG = 4; // px

export interface Chart {
  counts: Counts;
  zone: Zone;
  height: number;
  /** Called with the range that the user selected by dragging. */
  onRange: (from: string, to: string) => void;
}

export function chart(element: HTMLElement, { counts, zone, height, onRange }: Chart): uPlot {
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
      y: { range: (_plot, _min, max) => [0, max || 1] },
    },
    axes: axes(),
    cursor: { drag: { x: true, y: false, setScale: false }, points: { show: false }, y: false },
    series: [{}, ...rows.map(({ name, index }) => bars(name, index))],
    plugins: [tooltip(counts, zone)],
    hooks: { setSelect: [(plot) => applySelection(plot, onRange)] },
  };
  return new uPlot(options, [starts, ...rows.map((row) => row.sums)] as uPlot.AlignedData, element);
}

interface Row {
  name: string;
  index: number;
  sums: number[];
}

/** Cumulative sums, the highest first: each bar is drawn over the one behind it. */
function stacked(counts: Counts): Row[] {
  const rows = counts.series.map(({ value, counts }, index) => ({ name: value ?? NO_VALUE, index, counts }));
  if (counts.other.total) rows.push({ name: "other", index: rows.length, counts: counts.other.counts });
  const sums = counts.starts.map(() => 0);
  return rows
    .map(({ name, index, counts }) => ({ name, index, sums: counts.map((n, bucket) => (sums[bucket]! += n)) }))
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
    { ...axis, size: 22, values: TIME_LABELS },
    {
      ...axis,
      size: 44,
      splits: (_plot, _axis, _min, max) => [0, max],
      values: (_plot, values) => values.map(compact),
    },
  ];
}

/**
 * Labels are times, and a date where a day begins. Each row: the smallest step that it is for, the format, the formats
 * where a new year, month, day, … begins, and the mode.
 */
const TIME_LABELS = [
  [86_400, "{MM}-{DD}", null, null, null, null, null, null, 0],
  [60, "{HH}:{mm}", null, null, "{MM}-{DD}", null, null, null, 0],
  [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 0],
] as unknown as uPlot.Axis.Values;

function compact(n: number): string {
  return Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(n);
}

function applySelection(plot: uPlot, onRange: Chart["onRange"]): void {
  const { left: x, width } = plot.select;
  if (width < MIN_DRAG) return;
  plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  onRange(moment(plot.posToVal(x, "x")), moment(plot.posToVal(x + width, "x")));
}

function moment(seconds: number): string {
  return new Date(Math.round(seconds * 1_000)).toISOString();
}

/** Shows the counts of the bucket under the pointer. */
function tooltip(counts: Counts, zone: Zone): uPlot.Plugin {
  const box = document.createElement("div");
  box.className = "tip";
  const update = (plot: uPlot): void => {
    const index = bucketAt(plot, counts);
    box.hidden = index === null;
    if (index === null) return;
    box.textContent = [shown(counts.starts[index]!, zone, 0), ...linesOf(counts, index)].join("\n");
    const [x, width] = [plot.cursor.left!, plot.over.clientWidth];
    box.style.left = x > width / 2 ? "" : `${x + 12}px`;
    box.style.right = x > width / 2 ? `${width - x + 12}px` : "";
  };
  return { hooks: { init: (plot) => void plot.over.append(box), setCursor: update } };
}

function bucketAt(plot: uPlot, counts: Counts): number | null {
  const x = plot.cursor.left ?? -1;
  if (x < 0 || !counts.starts.length) return null;
  const offsetS = plot.posToVal(x, "x") - Date.parse(counts.starts[0]!) / 1_000;
  const index = Math.floor(offsetS / counts.step_s);
  return index >= 0 && index < counts.starts.length ? index : null;
}

function linesOf(counts: Counts, index: number): string[] {
  const all = [...counts.series, { value: "other", counts: counts.other.counts }];
  const present = all.filter((series) => series.counts[index]);
  const lines = present.map((series) => `${series.value ?? NO_VALUE} ${formatted(series.counts[index]!)}`);
  return lines.length ? lines : ["No events"];
}
