// Counts over time, stacked; dragging over it takes a range.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Histogram as Counts } from "../api/types";
import { colourOf, palette } from "../lib/colours";
import { shown, type Zone } from "../lib/time";

interface Props {
  counts: Counts;
  zone: Zone;
  height: number;
  onRange: (from: string, to: string) => void;
}

export function Histogram({ counts, zone, height, onRange }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const take = useRef(onRange);
  take.current = onRange;
  const names = counts.series.map((series) => series.value ?? "none").join("\n");
  useEffect(() => {
    const element = place.current!;
    const draw = (): uPlot => chart(element, counts, zone, height, (from, to) => take.current(from, to));
    let plot = draw();
    const watch = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height }));
    watch.observe(element);
    const theme = matchMedia("(prefers-color-scheme: dark)");
    const redraw = (): void => {
      plot.destroy();
      plot = draw();
    };
    theme.addEventListener("change", redraw);
    return () => {
      theme.removeEventListener("change", redraw);
      watch.disconnect();
      plot.destroy();
    };
  }, [counts, zone, height, names]);
  return <div ref={place} class="histogram" role="img" aria-label={describe(counts, zone)} />;
}

function describe(counts: Counts, zone: Zone): string {
  const parts = counts.series.map((series) => `${series.total.toLocaleString("en")} ${series.value ?? "without"}`);
  const range = `${shown(counts.from, zone, 0)} to ${shown(counts.to, zone, 0)}`;
  return `${counts.total.toLocaleString("en")} events from ${range}${parts.length ? `: ${parts.join(", ")}` : ""}`;
}

function chart(
  element: HTMLElement,
  counts: Counts,
  zone: Zone,
  height: number,
  onRange: (from: string, to: string) => void,
): uPlot {
  const rows = stacked(counts);
  const starts = counts.starts.map((start) => Date.parse(start) / 1_000);
  const last = (starts.at(-1) ?? 0) + counts.step_s;
  const ink = palette();
  const bars = uPlot.paths.bars!({ size: [0.85, 60], align: 1 });
  const grid = { stroke: ink.line, width: 1 };
  const axis: uPlot.Axis = { stroke: ink.dim, grid, ticks: { show: false }, font: "11px system-ui" };
  const bar = (name: string, index: number): uPlot.Series => {
    const colour = colourOf(name, index);
    return { label: name, fill: colour, stroke: colour, width: 0, paths: bars, points: { show: false } };
  };
  const options: uPlot.Options = {
    width: element.clientWidth || 600,
    height,
    padding: [20, 8, 0, 0],
    legend: { show: false },
    tzDate: (seconds) => {
      const at = new Date(seconds * 1_000);
      return zone === "utc" ? uPlot.tzDate(at, "Etc/UTC") : at;
    },
    scales: {
      x: { time: true, range: () => [starts[0] ?? 0, last] },
      y: { range: (_plot, _least, most) => [0, most || 1] },
    },
    axes: [
      { ...axis, size: 22, values: axisTimes },
      { ...axis, size: 44, splits: (_plot, _axis, _least, most) => [0, most], values: (_plot, values) => values.map(short) },
    ],
    cursor: { drag: { x: true, y: false, setScale: false }, points: { show: false }, y: false },
    series: [{}, ...rows.map(({ name, index }) => bar(name, index))],
    plugins: [tooltip(counts, zone)],
    hooks: {
      setSelect: [
        (plot) => {
          if (plot.select.width < 4) return;
          const [from, to] = [plot.select.left, plot.select.left + plot.select.width].map((x) => moment(plot.posToVal(x, "x")));
          plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          onRange(from!, to!);
        },
      ],
    },
  };
  return new uPlot(options, [starts, ...rows.map((row) => row.sums)] as uPlot.AlignedData, element);
}

/** Sums from the bottom up, the highest first: each bar is drawn over the one behind it. */
function stacked(counts: Counts): { name: string; index: number; sums: number[] }[] {
  const rows = counts.series.map((series, index) => ({ name: series.value ?? "none", index, counts: series.counts }));
  if (counts.other.total) rows.push({ name: "other", index: rows.length, counts: counts.other.counts });
  const sums = counts.starts.map(() => 0);
  return rows
    .map(({ name, index, counts: own }) => ({ name, index, sums: own.map((n, place) => (sums[place]! += n)) }))
    .reverse();
}

/** Times; a date where a day begins. */
const axisTimes: uPlot.Axis.Values = [
  [86_400, "{MM}-{DD}", null, null, null, null, null, null, 0],
  [60, "{HH}:{mm}", null, null, "{MM}-{DD}", null, null, null, 0],
  [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 0],
] as unknown as uPlot.Axis.Values;

function moment(seconds: number): string {
  return new Date(Math.round(seconds * 1_000)).toISOString();
}

function short(n: number): string {
  return Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(n);
}

/** Names what stands in the bucket under the pointer. */
function tooltip(counts: Counts, zone: Zone): uPlot.Plugin {
  const box = document.createElement("div");
  box.className = "tip";
  return {
    hooks: {
      init: (plot) => void plot.over.append(box),
      setCursor: (plot) => {
        const index = bucketAt(plot, counts);
        box.hidden = index === null;
        if (index === null) return;
        box.textContent = [shown(counts.starts[index]!, zone, 0), ...inBucket(counts, index)].join("\n");
        const left = plot.cursor.left! > plot.over.clientWidth / 2;
        box.style.left = left ? "" : `${plot.cursor.left! + 12}px`;
        box.style.right = left ? `${plot.over.clientWidth - plot.cursor.left! + 12}px` : "";
      },
    },
  };
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
