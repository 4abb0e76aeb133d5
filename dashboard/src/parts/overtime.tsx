// The histogram of a filter, with its states.
import type { Params } from "../api/client";
import type { Histogram as Counts } from "../api/types";
import { useAnswer } from "../lib/answer";
import { colourName } from "../lib/colours";
import { shown, type Zone } from "../lib/time";
import { go } from "../lib/view";
import { Histogram } from "./histogram";

interface Props {
  params: Params;
  again: unknown;
  zone: Zone;
  by: string;
  height: number;
  hasLegend?: boolean;
}

export function OverTime({ params, again, zone, by, height, hasLegend = false }: Props) {
  const { value, problem } = useAnswer<Counts>("api/events/histogram", [...params, ["by", by]], again);
  return (
    <div class="overtime" style={{ minHeight: `${height}px` }}>
      {problem && <p class="state failed">{problem.message}</p>}
      {value && !problem && (
        <>
          <Histogram
            counts={value}
            zone={zone}
            height={height}
            onRange={(from, to) => go({ range: { kind: "between", from, to } })}
          />
          <p class="note dim">
            {value.total.toLocaleString("en")} {value.total === 1 ? "event" : "events"}
            {value.partial && `, counted from ${shown(value.counted_from, zone, 0)} on: the time was spent`}
          </p>
          {hasLegend && <Legend counts={value} />}
        </>
      )}
    </div>
  );
}

function Legend({ counts }: { counts: Counts }) {
  const names = [...counts.series.map((series) => series.value ?? "none"), ...(counts.other.total ? ["other"] : [])];
  return (
    <ul class="legend">
      {names.map((name, index) => (
        <li key={name}>
          <i style={{ background: `var(${colourName(name, index)})` }} /> {name}
        </li>
      ))}
    </ul>
  );
}
