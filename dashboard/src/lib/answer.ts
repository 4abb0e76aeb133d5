// An answer of the collector for a component: asked when the address changes, and again when `again` does; the one
// before stays until the new one is there.
import { useEffect, useState } from "preact/hooks";
import { address, ask, type Params, Problem } from "../api/client";

export interface Answer<T> {
  value: T | null;
  problem: Problem | null;
  loading: boolean;
}

/** A null path asks nothing. */
export function useAnswer<T>(path: string | null, params: Params = [], again: unknown = null): Answer<T> {
  const [answer, setAnswer] = useState<Answer<T>>({ value: null, problem: null, loading: true });
  const url = path === null ? null : address(path, params);
  useEffect(() => {
    if (url === null) return;
    const stop = new AbortController();
    setAnswer((before) => ({ ...before, loading: true }));
    ask<T>(url, [], stop.signal).then(
      (value) => setAnswer({ value, problem: null, loading: false }),
      (error: unknown) => {
        if (!stop.signal.aborted) setAnswer((before) => ({ ...before, problem: asProblem(error), loading: false }));
      },
    );
    return () => stop.abort();
  }, [url, again]);
  return answer;
}

export function asProblem(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem(0, String(error));
}

/** Counts up every so many seconds while the page is seen. */
export function useTicks(everyS: number): number {
  const [ticks, setTicks] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setTicks((n) => n + 1), everyS * 1_000);
    return () => clearInterval(timer);
  }, [everyS]);
  return ticks;
}
