// What stands where there is nothing to show: still loading, nothing found, or a problem. They never look alike.
import type { ComponentChildren } from "preact";
import type { Problem } from "../api/client";

export function Loading({ what = "Loading…" }: { what?: string }) {
  return (
    <p class="state loading" role="status">
      {what}
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
