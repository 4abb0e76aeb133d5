// The most frequent values of each field; a click on a value adds or removes the filter for it.
import type { Params } from "../api/client";
import type { Facet, Facets as FacetsResponse } from "../api/types";
import { formatted, NO_VALUE } from "../lib/format";
import { hasTerm, paramsOf, parse, withoutField, withoutTerm, withTerm } from "../lib/query";
import { type Loaded, useResponse } from "../lib/response";

const PATH = "api/events/facets";
const FIELDS = [
  { field: "severity", name: "severity", title: "Severity" },
  { field: "type", name: "event_type", title: "Type" },
  { field: "source", name: "source", title: "Source" },
] as const;

interface Props {
  text: string;
  range: Params;
  revision: unknown;
  onText: (text: string) => void;
}

export function Facets(props: Props) {
  const query = parse(props.text);
  const isValid = query.problems.length === 0;
  const all = useResponse<FacetsResponse>(isValid ? PATH : null, [...paramsOf(query), ...props.range], props.revision);
  return (
    <aside class="facets" aria-label="Filters">
      {isValid && FIELDS.map((each) => (
        <FieldValues key={each.field} {...props} {...each} all={all} />
      ))}
    </aside>
  );
}

type FieldProps = Props & (typeof FIELDS)[number] & { all: Loaded<FacetsResponse> };

/** The values of a filtered field are counted without the filter on that field, so that another value can be chosen. */
function FieldValues({ text, range, revision, onText, field, name, title, all }: FieldProps) {
  const isFiltered = parse(text).terms.some((term) => term.field === field || term.field === `${field}_min`);
  const others = parse(withoutField(withoutField(text, field), `${field}_min`));
  const unfiltered = useResponse<FacetsResponse>(isFiltered ? PATH : null, [...paramsOf(others), ...range], revision);
  const response = isFiltered && (unfiltered.value || unfiltered.problem) ? unfiltered : all; // `all` until it arrives
  const facet: Facet | undefined = response.value?.fields[name];
  const values = facet ? [...facet.values, ...selected(text, field, facet)] : [];
  const max = Math.max(1, ...values.map((each) => each.n));
  return (
    <section aria-label={title}>
      <h2>
        {title}
        {facet?.partial && <span title="Only the newest events were counted within the time limit"> (partial)</span>}
      </h2>
      {response.problem && (
        <p class="dim" title={response.problem.message}>
          Counts not available
        </p>
      )}
      {!facet && !response.problem && <p class="dim">…</p>}
      {facet && !values.length && <p class="dim">No values</p>}
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
                title={value ?? `Events without a ${field}`}
              >
                <span class="share" style={{ width: `${(100 * n) / max}%` }} />
                <span class="value">{value ?? NO_VALUE}</span>
                <span class="count">{formatted(n)}</span>
              </button>
            </li>
          );
        })}
        {facet && facet.other > 0 && <li class="dim other">{formatted(facet.other)} with other values</li>}
      </ul>
    </section>
  );
}

/** The selected values without events, which are listed so that their filter can be removed. */
function selected(text: string, field: string, facet: Facet): Facet["values"] {
  const shown = new Set(facet.values.map((each) => each.value));
  const terms = parse(text).terms.filter((term) => term.field === field && !shown.has(term.value));
  return terms.map((term) => ({ value: term.value, n: 0 }));
}
