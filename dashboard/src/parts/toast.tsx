// A short message about a completed action; it disappears by itself.
import { signal } from "@preact/signals";

const SHOWN_MS = 4_000;
const text = signal("");
let timer = 0;

export function showToast(message: string): void {
  text.value = message;
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
