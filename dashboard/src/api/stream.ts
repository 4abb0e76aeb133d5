// Follows the events as they arrive: server-sent events through fetch, resumed by Last-Event-ID, with back-off.
import { Problem, request } from "./client";
import type { Event } from "./types";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const SILENCE_MS = 45_000; // three heartbeats of the collector

export interface Message {
  name: string;
  id: string;
  data: string;
}

export interface Listener {
  /** The stream stands; what came before it is not told. */
  onReady(): void;
  onEvents(events: Event[]): void;
  /** So many events were left out. */
  onGap(arrived: number): void;
  /** It broke, and is tried again; a problem that does not pass ends it. */
  onAway(problem: Problem, ended: boolean): void;
}

/** Follow until the signal aborts, or the collector refuses. */
export async function follow(url: string, listener: Listener, signal: AbortSignal): Promise<void> {
  let lastId = "";
  let failures = 0;
  while (!signal.aborted) {
    await seen(signal);
    const hidden = untilHidden(signal);
    try {
      for await (const message of messages(url, lastId, hidden)) {
        lastId = message.id || lastId;
        failures = 0;
        tell(message, listener);
      }
      throw new Problem(0, "The collector ended the stream.");
    } catch (error) {
      if (signal.aborted) return;
      if (hidden.aborted) continue;
      const problem = error instanceof Problem ? error : new Problem(0, "The connection to the collector broke.");
      listener.onAway(problem, !problem.passes);
      if (!problem.passes) return;
      await pause(Math.max(backOff(failures++), problem.retryAfterS * 1_000), signal);
    }
  }
}

function tell(message: Message, listener: Listener): void {
  if (message.name === "ready") listener.onReady();
  else if (message.name === "events") listener.onEvents(JSON.parse(message.data) as Event[]);
  else if (message.name === "gap") listener.onGap((JSON.parse(message.data) as { arrived: number }).arrived);
}

async function* messages(url: string, lastId: string, signal: AbortSignal): AsyncGenerator<Message> {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    if (lastId) headers["Last-Event-ID"] = lastId;
    const either = AbortSignal.any([signal, silence.signal]);
    const answer = await request(url, { headers, signal: either, cache: "no-store" });
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader(); // Safari cannot iterate over it
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop() ?? "";
      yield* blocks.map(parse);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Take a message apart; the collector ends lines with \n alone. */
export function parse(block: string): Message {
  const fields = new Map<string, string>();
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*): ?(.*)$/s.exec(line) ?? [];
    if (!name) continue;
    const before = fields.get(name);
    fields.set(name, before === undefined ? value! : `${before}\n${value}`);
  }
  return { name: fields.get("event") ?? "", id: fields.get("id") ?? "", data: fields.get("data") ?? "" };
}

/** A page that is not seen keeps no connection: a browser has six for a host. What comes meanwhile is sent later. */
function untilHidden(signal: AbortSignal): AbortSignal {
  const hidden = new AbortController();
  const look = (): void => {
    if (document.hidden) hidden.abort();
  };
  document.addEventListener("visibilitychange", look, { signal: AbortSignal.any([signal, hidden.signal]) });
  return AbortSignal.any([signal, hidden.signal]);
}

function seen(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (!document.hidden) return resolve();
    const look = (): void => {
      if (!document.hidden) resolve();
    };
    document.addEventListener("visibilitychange", look, { signal });
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

function backOff(failures: number): number {
  const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** failures);
  return longest * (0.5 + Math.random() / 2);
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
