// The help: keyboard shortcuts, the search syntax, and links to the documentation.
import { useEffect, useRef } from "preact/hooks";
import { SHORTCUTS } from "../lib/shortcuts";

const SEARCHES: readonly (readonly [text: string, meaning: string])[] = [
  ["severity:error", "This severity"],
  ["severity_min:warning", "This severity or higher"],
  ["type:payment_failed type:refund", "Any of these types"],
  ["source:shop", "This source"],
  ['source:"my shop"', "A value with spaces"],
  ["details.user.id:42", "This value in the details"],
  ["lamp -chair", "One word, but not the other"],
  ['"no charge"', "This exact phrase"],
];

export function Help({ onClose }: { onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={onClose}>
      <h2 id="help-title">Help</h2>
      <h3>Keyboard shortcuts</h3>
      <dl>
        {SHORTCUTS.map(([keys, action]) => (
          <div key={action}>
            <dt>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{action}</dd>
          </div>
        ))}
      </dl>
      <h3>Search</h3>
      <dl>
        {SEARCHES.map(([text, meaning]) => (
          <div key={text}>
            <dt>
              <code>{text}</code>
            </dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
      <p class="dim">Events must match all conditions.</p>
      <form method="dialog">
        <a href="manual/">Manual</a>
        <a href="docs">API reference</a>
        <span class="gap" />
        <button type="submit" autofocus>
          Close
        </button>
      </form>
    </dialog>
  );
}
