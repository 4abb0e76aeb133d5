// Whether the list follows, and why not.
import type { Listing } from "../lib/listing";

const WORDS = {
  connecting: "Connecting…",
  live: "Live",
  paused: "Paused",
  away: "Reconnecting…",
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
  const why = tail === "away" || tail === "refused" ? listing.tailProblem.value : "";
  return (
    <>
      <span class={`tail ${state}`} role="status" title={why}>
        {WORDS[state]}
      </span>
      <button type="button" aria-pressed={isPaused} onClick={onPause} title="Pause or go on (p)">
        {isPaused ? "Go on" : "Pause"}
      </button>
    </>
  );
}
