// Counts over time, stacked; dragging over it takes a range.
import { useEffect, useRef } from "preact/hooks";
import type { Histogram as Counts } from "../api/types";
import { chart } from "../lib/chart";
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
  useEffect(() => {
    const element = place.current!;
    const draw = () => chart(element, { counts, zone, height, onRange: (from, to) => take.current(from, to) });
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
  }, [counts, zone, height]);
  return <div ref={place} class="histogram" role="img" aria-label={describe(counts, zone)} />;
}

function describe(counts: Counts, zone: Zone): string {
  const parts = counts.series.map((series) => `${series.total.toLocaleString("en")} ${series.value ?? "without"}`);
  const range = `${shown(counts.from, zone, 0)} to ${shown(counts.to, zone, 0)}`;
  return `${counts.total.toLocaleString("en")} events from ${range}${parts.length ? `: ${parts.join(", ")}` : ""}`;
}
