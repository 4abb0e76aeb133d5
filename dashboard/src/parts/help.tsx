// The keys, and how to search.
import { useEffect, useRef } from "preact/hooks";
import { KEYS } from "../lib/keys";

const SEARCHES: readonly (readonly [text: string, what: string])[] = [
  ["severity:error", "this severity"],
  ["severity_min:warning", "this one or a higher one"],
  ["type:payment_failed type:refund", "any of these types"],
  ["source:shop", "this source"],
  ["details.user.id:42", "this value in the details"],
  ['source:"my shop"', "quotes hold spaces"],
  ["lamp -chair", "this word, without that one"],
  ['"no charge"', "these words in this order"],
];

export function Help({ onClose }: { onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={onClose}>
      <h2 id="help-title">Help</h2>
      <h3>Keys</h3>
      <dl>
        {KEYS.map(([key, what]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <h3>Search</h3>
      <dl>
        {SEARCHES.map(([text, what]) => (
          <div key={text}>
            <dt>
              <code>{text}</code>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <form method="dialog">
        <button type="submit">Close</button>
      </form>
    </dialog>
  );
}
