// The top line: where one is, and what holds for every page.
import { endSession, session } from "../api/client";
import { copy, NO_CLIPBOARD } from "../lib/copy";
import { frozen, zoneName } from "../lib/time";
import { fragmentOf, go, type Page, view } from "../lib/view";
import { tell } from "./toast";

const TITLES: Readonly<Record<Page, string>> = { events: "Events", statistics: "Statistics", health: "Health" };

export function Header({ onHelp }: { onHelp: () => void }) {
  const { page, zone } = view.value;
  return (
    <header class="top">
      <h1>
        <Mark /> brain-events
      </h1>
      <nav aria-label="Pages">
        {Object.entries(TITLES).map(([name, title]) => (
          <a
            key={name}
            href={fragmentOf({ ...view.value, page: name as Page, event: null })}
            aria-current={page === name ? "page" : undefined}
          >
            {title}
          </a>
        ))}
        <a href="docs">API</a>
      </nav>
      <span class="gap" />
      <button type="button" onClick={() => void copyLink()} title="Copy a link to this view, its time range fixed">
        Copy link
      </button>
      <button
        type="button"
        aria-pressed={zone === "local"}
        title="Times in UTC or in your time zone"
        onClick={() => go({ zone: zone === "utc" ? "local" : "utc" }, "replace")}
      >
        {zone === "utc" ? "UTC" : zoneName("local")}
      </button>
      <button type="button" onClick={onHelp} aria-label="Keyboard help" title="Keyboard help (?)">
        ?
      </button>
      {session.value?.caller && session.value.caller !== "open" && (
        <button type="button" onClick={() => void endSession()}>
          Sign out
        </button>
      )}
    </header>
  );
}

/** The mark is drawn, so that it takes the colours of the theme. */
function Mark() {
  return (
    <svg class="mark" viewBox="0 0 16 16" aria-hidden="true">
      <rect x="1" y="8" width="3.4" height="7" rx="1" />
      <rect x="6.3" y="2" width="3.4" height="13" rx="1" />
      <rect x="11.6" y="5" width="3.4" height="10" rx="1" />
    </svg>
  );
}

/** The link to the view as it is now: a range until now would show something else tomorrow. */
async function copyLink(): Promise<void> {
  const fixed = fragmentOf({ ...view.value, range: frozen(view.value.range) });
  const done = await copy(new URL(fixed, location.href).href);
  tell(done ? "The link is on the clipboard; its time range is fixed." : NO_CLIPBOARD);
}
