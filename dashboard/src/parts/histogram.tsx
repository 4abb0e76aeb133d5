// Counts over time as stacked bars; dragging over them selects a time range.
import { useEffect, useRef } from "preact/hooks";
import type { Histogram as Counts } from "../api/types";
import { chart } from "../lib/chart";
import { formatted, NO_VALUE, plural } from "../lib/format";
import { shown, type Zone } from "../lib/time";

interface Props {
  counts: Counts;
  zone: Zone;
  height: number;
  onRange: (from: string, to: string) => void;
}

export function Histogram({ counts, zone, height, onRange }: Props) {
  const container = useRef<HTMLDivElement>(null);
  const latestOnRange = useRef(onRange);
  latestOnRange.current = onRange;
  useEffect(() => {
    const element = container.current!;
    const draw = () => chart(element, { counts, zone, height, onRange: (from, to) => latestOnRange.current(from, to) });
    let plot = draw();
    const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    const theme = matchMedia("(prefers-color-scheme: dark)");
    const redraw = (): void => {
      plot.destroy();
      plot = draw();
    };
    theme.addEventListener("change", redraw);
    return () => {
      theme.removeEventListener("change", redraw);
      observer.disconnect();
      plot.destroy();
    };
  }, [counts, zone, height]);
  return <div ref={container} class="histogram" role="img" aria-label={describe(counts, zone)} />;
}

function describe(counts: Counts, zone: Zone): string {
  const parts = counts.series.map((series) => `${formatted(series.total)} ${series.value ?? NO_VALUE}`);
  const range = `${shown(counts.from, zone, 0)} to ${shown(counts.to, zone, 0)}`;
  return `${plural(counts.total, "event")} from ${range}${parts.length ? `: ${parts.join(", ")}` : ""}`;
}
