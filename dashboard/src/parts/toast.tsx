// A line that says what was done, and goes by itself.
import { signal } from "@preact/signals";

const SHOWN_MS = 4_000;
const text = signal("");
let timer = 0;

export function tell(what: string): void {
  text.value = what;
  clearTimeout(timer);
  timer = window.setTimeout(() => (text.value = ""), SHOWN_MS);
}

export function Toast() {
  return (
    <div class="toast" role="status" aria-live="polite">
      {text.value && <span>{text.value}</span>}
    </div>
  );
}
