// Requests to the collector. URLs are relative to the page, so the dashboard works below any path prefix.
import { signal } from "@preact/signals";
import type { Session } from "./types";

/** Parameters of a request, in the order in which they are sent; a name may appear more than once. */
export type Params = readonly (readonly [name: string, value: string])[];

export const UNREACHABLE = "The collector does not respond.";

/** A failed request. The message is the collector's own where the response has one. */
export class Problem extends Error {
  readonly status: number;
  readonly retryAfterS: number;

  constructor(status: number, message: string, retryAfterS = 0) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may succeed later. */
  get isTransient(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** Whether the collector requires an API key and has none of this browser. */
export const locked = signal(false);
/** Whether an API key that was accepted before is now refused. */
export const lapsed = signal(false);
/** The caller and its scopes; null until the collector has responded. */
export const session = signal<Session | null>(null);

export function urlOf(path: string, params: Params = []): string {
  const query = new URLSearchParams(params.map(([name, value]) => [name, value])).toString();
  return query ? `${path}?${query}` : path;
}

/**
 * Fetch, and return the response if it is successful.
 * @throws Problem, or the AbortError of `init.signal`
 */
export async function request(url: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Problem(0, UNREACHABLE);
  }
  if (response.ok) return response;
  if (response.status === 401) {
    lapsed.value ||= !locked.value;
    locked.value = true;
  }
  throw await problemOf(response);
}

export async function getJson<T>(path: string, params: Params = [], signal?: AbortSignal): Promise<T> {
  return (await (await request(urlOf(path, params), signal ? { signal } : {})).json()) as T;
}

/** Return the URL of the next page, relative to this one; null on the last page. */
export function nextOf(response: Response, path: string): string | null {
  const link = /<([^>]*)>;\s*rel="next"/.exec(response.headers.get("Link") ?? "");
  return link?.[1] ? path + new URL(link[1], location.href).search : null;
}

async function problemOf(response: Response): Promise<Problem> {
  const retryAfterS = Number(response.headers.get("Retry-After")) || 0;
  const fallback = `The collector responded with status ${response.status}.`;
  try {
    const { detail, title } = (await response.json()) as { detail?: string; title?: string };
    return new Problem(response.status, detail ?? title ?? fallback, retryAfterS);
  } catch {
    return new Problem(response.status, fallback, retryAfterS);
  }
}

/** Load the session; unlocks the dashboard if the request was authorized. */
export async function refreshSession(): Promise<void> {
  const loaded = await getJson<Session>("api/session");
  session.value = loaded;
  locked.value = loaded.needs_key;
  if (!loaded.needs_key) lapsed.value = false;
}

export async function beginSession(apiKey: string): Promise<void> {
  const headers = { "Content-Type": "application/json" };
  await request("api/session", { method: "POST", headers, body: JSON.stringify({ key: apiKey }) });
  await refreshSession();
}

export async function endSession(): Promise<void> {
  try {
    await request("api/session", { method: "DELETE" });
  } finally {
    await refreshSession(); // the browser forgets its cookie in any case
  }
}
