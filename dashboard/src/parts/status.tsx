// What a part shows when it has no data: loading, empty, or failed. The three look different.
import type { ComponentChildren } from "preact";
import type { Problem } from "../api/client";

export function Loading({ text = "Loading…" }: { text?: string }) {
  return (
    <p class="state loading" role="status">
      {text}
    </p>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return (
    <div class="state empty" role="status">
      {children}
    </div>
  );
}

export function Failed({ problem, onRetry }: { problem: Problem; onRetry?: () => void }) {
  return (
    <div class="state failed" role="alert">
      <p>{problem.message}</p>
      {onRetry && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}
