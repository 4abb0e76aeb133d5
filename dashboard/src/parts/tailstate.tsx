// Shows whether the list follows new events, with a tooltip that says why it does not.
import type { Listing } from "../lib/listing";

const LABELS = {
  connecting: "Connecting…",
  live: "Live",
  paused: "Paused",
  reconnecting: "Reconnecting…",
  refused: "Not live",
} as const;

interface Props {
  listing: Listing;
  isPaused: boolean;
  onPause: () => void;
}

export function TailState({ listing, isPaused, onPause }: Props) {
  const tail = listing.tail.value;
  if (tail === "off") return <span class="tail off">Fixed range</span>;
  const state = isPaused && tail === "live" ? "paused" : tail;
  const reason = tail === "reconnecting" || tail === "refused" ? listing.tailProblem.value : "";
  return (
    <>
      <span class={`tail ${state}`} role="status" title={reason}>
        {LABELS[state]}
      </span>
      <button type="button" aria-pressed={isPaused} onClick={onPause} title="Pause or resume live updates (p)">
        {isPaused ? "Resume" : "Pause"}
      </button>
    </>
  );
}
