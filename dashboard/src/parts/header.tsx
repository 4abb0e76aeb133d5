// The top bar: the pages, the documentation, and the controls that apply to every page.
import { endSession, session } from "../api/client";
import { CANNOT_COPY, copy } from "../lib/copy";
import { frozen, zoneName } from "../lib/time";
import { fragmentOf, go, type Page, view } from "../lib/view";
import { showToast } from "./toast";

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
      </nav>
      <span class="gap" />
      <nav aria-label="Documentation">
        <a href="docs" title="API reference">
          API
        </a>
        <a href="manual/">Manual</a>
      </nav>
      <button type="button" onClick={() => void copyLink()} title="Copy a link to this view with a fixed time range">
        Copy link
      </button>
      <button
        type="button"
        aria-pressed={zone === "local"}
        title="Switch between UTC and local time"
        onClick={() => go({ zone: zone === "utc" ? "local" : "utc" }, "replace")}
      >
        {zone === "utc" ? "UTC" : zoneName("local")}
      </button>
      <button type="button" onClick={onHelp} aria-label="Help" title="Help (?)">
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

/** The logo, drawn inline so that it takes the colours of the theme. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 16 16" aria-hidden="true">
      <rect x="1" y="8" width="3.4" height="7" rx="1" />
      <rect x="6.3" y="2" width="3.4" height="13" rx="1" />
      <rect x="11.6" y="5" width="3.4" height="10" rx="1" />
    </svg>
  );
}

/** Copy a link to the current view. The range is fixed: a range until now would show other events tomorrow. */
async function copyLink(): Promise<void> {
  const fixed = fragmentOf({ ...view.value, range: frozen(view.value.range) });
  const isCopied = await copy(new URL(fixed, location.href).href);
  showToast(isCopied ? "Link copied. Its time range is fixed." : CANNOT_COPY);
}
