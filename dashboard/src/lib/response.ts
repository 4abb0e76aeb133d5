// A response of the API for a component. It is requested again when the URL or `revision` changes; the value before
// stays until the new one has arrived.
import { useEffect, useState } from "preact/hooks";
import { getJson, type Params, Problem, urlOf } from "../api/client";

export interface Loaded<T> {
  value: T | null;
  problem: Problem | null;
  loading: boolean;
}

/** A null path requests nothing. */
export function useResponse<T>(path: string | null, params: Params = [], revision: unknown = null): Loaded<T> {
  const [state, setState] = useState<Loaded<T>>({ value: null, problem: null, loading: true });
  const url = path === null ? null : urlOf(path, params);
  useEffect(() => {
    if (url === null) return;
    const stop = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    getJson<T>(url, [], stop.signal).then(
      (value) => setState({ value, problem: null, loading: false }),
      (error: unknown) => {
        if (!stop.signal.aborted) setState((before) => ({ ...before, problem: asProblem(error), loading: false }));
      },
    );
    return () => stop.abort();
  }, [url, revision]);
  return state;
}

export function asProblem(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem(0, String(error));
}

/** Count up at this interval while the browser tab is visible. */
export function useTicks(intervalS: number): number {
  const [ticks, setTicks] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setTicks((n) => n + 1), intervalS * 1_000);
    return () => clearInterval(timer);
  }, [intervalS]);
  return ticks;
}
