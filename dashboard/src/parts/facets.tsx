// The most frequent values of each field; a click filters by one, or takes the filter away.
import type { Params } from "../api/client";
import type { Facet, Facets as Answer } from "../api/types";
import { type Answer as Asked, useAnswer } from "../lib/answer";
import { hasTerm, paramsOf, parse, withoutField, withoutTerm, withTerm } from "../lib/query";

const PATH = "api/events/facets";
const FIELDS = [
  { field: "severity", name: "severity", title: "Severity" },
  { field: "type", name: "event_type", title: "Type" },
  { field: "source", name: "source", title: "Source" },
] as const;

interface Props {
  text: string;
  range: Params;
  again: unknown;
  onText: (text: string) => void;
}

export function Facets(props: Props) {
  const query = parse(props.text);
  const isGood = query.problems.length === 0;
  const all = useAnswer<Answer>(isGood ? PATH : null, [...paramsOf(query), ...props.range], props.again);
  return (
    <aside class="facets" aria-label="Filters">
      {isGood && FIELDS.map((each) => (
        <FieldValues key={each.field} {...props} {...each} all={all} />
      ))}
    </aside>
  );
}

type FieldProps = Props & (typeof FIELDS)[number] & { all: Asked<Answer> };

/** Of a field that is filtered by, the values are counted without that filter: another one can be chosen. */
function FieldValues({ text, range, again, onText, field, name, title, all }: FieldProps) {
  const isFiltered = parse(text).terms.some((term) => term.field === field || term.field === `${field}_min`);
  const others = parse(withoutField(withoutField(text, field), `${field}_min`));
  const own = useAnswer<Answer>(isFiltered ? PATH : null, [...paramsOf(others), ...range], again);
  const answer = isFiltered && (own.value || own.problem) ? own : all; // nothing jumps while the first one comes
  const facet: Facet | undefined = answer.value?.fields[name];
  const values = facet ? [...facet.values, ...chosen(text, field, facet)] : [];
  const most = Math.max(1, ...values.map((each) => each.n));
  return (
    <section aria-label={title}>
      <h2>
        {title}
        {facet?.partial && <span title="The time was spent: only the newest events are counted"> (part)</span>}
      </h2>
      {answer.problem && (
        <p class="dim" title={answer.problem.message}>
          not counted
        </p>
      )}
      {!facet && !answer.problem && <p class="dim">…</p>}
      {facet && !values.length && <p class="dim">none</p>}
      <ul>
        {values.map(({ value, n }) => {
          const isOn = value !== null && hasTerm(text, field, value);
          const toggle = (): void =>
            onText(isOn ? withoutTerm(text, field, value) : withTerm(text, field, value ?? ""));
          return (
            <li key={value}>
              <button
                type="button"
                class={`facet ${field === "severity" ? value : ""}`}
                aria-pressed={isOn}
                disabled={value === null}
                onClick={toggle}
                title={value ?? "without"}
              >
                <span class="share" style={{ width: `${(100 * n) / most}%` }} />
                <span class="value">{value ?? "(none)"}</span>
                <span class="count">{n.toLocaleString("en")}</span>
              </button>
            </li>
          );
        })}
        {facet && facet.other > 0 && <li class="dim other">{facet.other.toLocaleString("en")} more of other values</li>}
      </ul>
    </section>
  );
}

/** What is filtered by stays to be seen, to be let go again, also where it has no events. */
function chosen(text: string, field: string, facet: Facet): Facet["values"] {
  const shown = new Set(facet.values.map((each) => each.value));
  const terms = parse(text).terms.filter((term) => term.field === field && !shown.has(term.value));
  return terms.map((term) => ({ value: term.value, n: 0 }));
}
