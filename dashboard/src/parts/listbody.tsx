// The list with what is to say about it: loading, nothing found, a problem, where it ends.
import type { ComponentChildren } from "preact";
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
  if (isEmpty && phase === "loading") return <Loading what="Loading events…" />;
  if (isEmpty && phase === "failed" && listing.problem.value) {
    return <Failed problem={listing.problem.value} onRetry={() => listing.restart()} />;
  }
  if (isEmpty && listing.older.value === "end") return <Nothing range={range} hasText={hasText} />;
  return (
    <>
      {children}
      <End listing={listing} />
    </>
  );
}

function Nothing({ range, hasText }: { range: Range; hasText: boolean }) {
  return (
    <Empty>
      <p>
        No events {hasText ? "match " : ""}
        {range.kind === "last" ? `in the ${spanName(range.span).toLowerCase()}` : "in this time range"}.
      </p>
      {hasText && (
        <button type="button" onClick={() => go({ text: "" })}>
          Clear the search
        </button>
      )}
      {(range.kind === "between" || spanSeconds(range.span)! < MONTH_S) && (
        <button type="button" onClick={() => go({ range: { kind: "last", span: "30d" } })}>
          Look at the last 30 days
        </button>
      )}
    </Empty>
  );
}

function End({ listing }: { listing: Listing }) {
  const n = listing.rows.value.length.toLocaleString("en");
  const oldest = listing.rows.value.at(-1)?.timestamp;
  switch (listing.older.value) {
    case "loading":
      return <p class="end dim">{n} events; searching further back…</p>;
    case "end":
      return <p class="end dim">{n === "1" ? "1 event" : `${n} events`}; that is all of this time range.</p>;
    case "failed":
      return (
        <p class="end bad" role="alert">
          {n} events. {listing.problem.value?.message}{" "}
          <button type="button" onClick={() => void listing.more()}>
            Try again
          </button>
        </p>
      );
    case "full":
      return (
        <p class="end dim">
          {n} events; no more are kept.{" "}
          <button type="button" onClick={() => oldest && goOn(oldest)}>
            Go on from the oldest
          </button>
        </p>
      );
    default:
      return <p class="end dim">{n} events; scroll for more.</p>;
  }
}

function goOn(oldest: string): void {
  go({ range: { kind: "between", from: bounds(view.value.range).from, to: justAfter(oldest) } });
}
