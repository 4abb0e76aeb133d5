// Asks the collector. Addresses are relative to the page: it works under any path prefix.
import { signal } from "@preact/signals";
import type { Session } from "./types";

/** Parameters of a call, in the order in which they are sent; a name may come more than once. */
export type Params = readonly (readonly [name: string, value: string])[];

/** What went wrong, in the collector's own words where it said something. */
export class Problem extends Error {
  readonly status: number;
  readonly retryAfterS: number;

  constructor(status: number, message: string, retryAfterS = 0) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may succeed later. */
  get passes(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** Whether the collector wants an API key that it was not given. */
export const locked = signal(false);
/** Whether it took one before, and no longer does. */
export const lapsed = signal(false);
/** Who asks; null until the collector has said so. */
export const session = signal<Session | null>(null);

export function address(path: string, params: Params = []): string {
  const query = new URLSearchParams(params.map(([name, value]) => [name, value])).toString();
  return query ? `${path}?${query}` : path;
}

/**
 * Fetch, and return an answer that is good.
 * @throws Problem, or the AbortError of `init.signal`
 */
export async function request(url: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(url, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Problem(0, "The collector does not answer.");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) {
    lapsed.value ||= !locked.value;
    locked.value = true;
  }
  throw await problemOf(answer);
}

export async function ask<T>(path: string, params: Params = [], signal?: AbortSignal): Promise<T> {
  return (await (await request(address(path, params), signal ? { signal } : {})).json()) as T;
}

/** Where the next page is, as an address beside the page's; null on the last one. */
export function nextOf(answer: Response, path: string): string | null {
  const found = /<([^>]*)>;\s*rel="next"/.exec(answer.headers.get("Link") ?? "");
  return found?.[1] ? path + new URL(found[1], location.href).search : null;
}

async function problemOf(answer: Response): Promise<Problem> {
  const retryAfterS = Number(answer.headers.get("Retry-After")) || 0;
  try {
    const { detail, title } = (await answer.json()) as { detail?: string; title?: string };
    return new Problem(answer.status, detail ?? title ?? `The collector answered ${answer.status}.`, retryAfterS);
  } catch {
    return new Problem(answer.status, `The collector answered ${answer.status}.`, retryAfterS);
  }
}

/** Find out who asks; also unlocks the page. */
export async function refreshSession(): Promise<void> {
  const found = await ask<Session>("api/session");
  session.value = found;
  locked.value = found.needs_key;
  if (!found.needs_key) lapsed.value = false;
}

export async function beginSession(key: string): Promise<void> {
  const headers = { "Content-Type": "application/json" };
  await request("api/session", { method: "POST", headers, body: JSON.stringify({ key }) });
  await refreshSession();
}

export async function endSession(): Promise<void> {
  await request("api/session", { method: "DELETE" });
  await refreshSession();
}
