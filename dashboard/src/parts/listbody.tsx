// The list in its states: loading, failed, empty, or rows with a line below them that says whether there are more.
import type { ComponentChildren } from "preact";
import { plural } from "../lib/format";
import type { Listing } from "../lib/listing";
import { bounds, justAfter, type Range, spanName, spanSeconds } from "../lib/time";
import { go, view } from "../lib/view";
import { Empty, Failed, Loading } from "./status";

const MONTH_S = 30 * 86_400;

interface Props {
  listing: Listing;
  range: Range;
  hasText: boolean;
  children: ComponentChildren;
}

export function ListBody({ listing, range, hasText, children }: Props) {
  const isEmpty = listing.rows.value.length === 0;
  const phase = listing.phase.value;
  if (isEmpty && phase === "loading") return <Loading text="Loading events…" />;
  if (isEmpty && phase === "failed" && listing.problem.value) {
    return <Failed problem={listing.problem.value} onRetry={() => listing.restart()} />;
  }
  if (isEmpty && listing.older.value === "end") return <NoEvents range={range} hasText={hasText} />;
  return (
    <>
      {children}
      <End listing={listing} />
    </>
  );
}

function NoEvents({ range, hasText }: { range: Range; hasText: boolean }) {
  return (
    <Empty>
      <p>
        No {hasText ? "matching " : ""}events
        {range.kind === "last" ? ` in the ${spanName(range.span).toLowerCase()}` : " in this time range"}.
      </p>
      {hasText && (
        <button type="button" onClick={() => go({ text: "" })}>
          Clear search
        </button>
      )}
      {(range.kind === "between" || spanSeconds(range.span)! < MONTH_S) && (
        <button type="button" onClick={() => go({ range: { kind: "last", span: "30d" } })}>
          Show last 30 days
        </button>
      )}
    </Empty>
  );
}

function End({ listing }: { listing: Listing }) {
  const rows = listing.rows.value;
  const oldest = rows.at(-1)?.timestamp;
  const loaded = `${plural(rows.length, "event")} loaded`;
  switch (listing.older.value) {
    case "loading":
      return <p class="end dim">{loaded}. Loading more…</p>;
    case "end":
      return <p class="end dim">{plural(rows.length, "event")}. No more in this time range.</p>;
    case "failed":
      return (
        <p class="end bad" role="alert">
          {loaded}. {listing.problem.value?.message}{" "}
          <button type="button" onClick={() => void listing.more()}>
            Try again
          </button>
        </p>
      );
    case "full":
      return (
        <p class="end dim">
          {loaded}, the maximum.{" "}
          <button type="button" onClick={() => oldest && continueFrom(oldest)}>
            Continue from the oldest
          </button>
        </p>
      );
    default:
      return <p class="end dim">{loaded}. Scroll to load more.</p>;
  }
}

function continueFrom(oldest: string): void {
  go({ range: { kind: "between", from: bounds(view.value.range).from, to: justAfter(oldest) } });
}
