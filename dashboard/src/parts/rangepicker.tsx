// Selects the time range: a span until now, or two fixed ends.
import { useEffect, useState } from "preact/hooks";
import { frozen, type Range, read, shown, spanName, SPANS, type Zone, zoneName } from "../lib/time";

const BETWEEN = "between";

interface Props {
  range: Range;
  zone: Zone;
  onRange: (range: Range) => void;
}

export function RangePicker({ range, zone, onRange }: Props) {
  const selected = range.kind === "last" ? range.span : BETWEEN;
  const spans = SPANS.includes(selected) || selected === BETWEEN ? SPANS : [selected, ...SPANS];
  const select = (value: string): void => onRange(value === BETWEEN ? frozen(range) : { kind: "last", span: value });
  return (
    <div class="range">
      <select aria-label="Time range" value={selected} onChange={(change) => select(change.currentTarget.value)}>
        {spans.map((span) => (
          <option key={span} value={span}>
            {spanName(span)}
          </option>
        ))}
        <option value={BETWEEN}>Custom range</option>
      </select>
      {range.kind === "between" && <Between range={range} zone={zone} onRange={onRange} />}
    </div>
  );
}

function Between({ range, zone, onRange }: Props & { range: Range & { kind: "between" } }) {
  const [ends, setEnds] = useState({ from: "", to: "" });
  useEffect(() => setEnds({ from: shown(range.from, zone), to: shown(range.to, zone) }), [range.from, range.to, zone]);
  const [from, to] = [read(ends.from, zone), read(ends.to, zone)];
  const isInvalid = from === null || to === null || from > to;
  const apply = (): void => {
    if (isInvalid || (ends.from === shown(range.from, zone) && ends.to === shown(range.to, zone))) return;
    onRange({ kind: "between", from, to });
  };
  return (
    <form
      class="between"
      onSubmit={(submitted) => {
        submitted.preventDefault();
        apply();
      }}
    >
      {(["from", "to"] as const).map((end) => (
        <input
          key={end}
          type="text"
          class="moment"
          aria-label={`${end === "from" ? "From" : "To"} (${zoneName(zone)})`}
          aria-invalid={isInvalid}
          title="For example 2026-01-02 23:45"
          value={ends[end]}
          onInput={(change) => setEnds({ ...ends, [end]: change.currentTarget.value })}
          onBlur={apply}
        />
      ))}
      <button type="submit" hidden>
        Apply
      </button>
    </form>
  );
}
