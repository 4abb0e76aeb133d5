// The histogram of a filter in its states: loading, failed, drawn.
import type { Params } from "../api/client";
import type { Histogram as Counts } from "../api/types";
import { colourName } from "../lib/colours";
import { NO_VALUE, plural } from "../lib/format";
import { useResponse } from "../lib/response";
import { shown, type Zone } from "../lib/time";
import { go } from "../lib/view";
import { Histogram } from "./histogram";

interface Props {
  params: Params;
  revision: unknown;
  zone: Zone;
  by: string;
  height: number;
  hasLegend?: boolean;
}

export function OverTime({ params, revision, zone, by, height, hasLegend = false }: Props) {
  const { value, problem } = useResponse<Counts>("api/events/histogram", [...params, ["by", by]], revision);
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
            {plural(value.total, "event")}
            {value.partial && ` since ${shown(value.counted_from, zone, 0)} (time limit reached)`}
          </p>
          {hasLegend && <Legend counts={value} />}
        </>
      )}
    </div>
  );
}

function Legend({ counts }: { counts: Counts }) {
  const names = [...counts.series.map(({ value }) => value ?? NO_VALUE), ...(counts.other.total ? ["other"] : [])];
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
