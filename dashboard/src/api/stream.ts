// Follows new events: server-sent events read through fetch, resumed with Last-Event-ID, retried with back-off.
import { parseValue } from "../lib/json";
import { Problem, request } from "./client";
import type { Event } from "./types";

const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 15_000;
const SILENCE_MS = 45_000; // three heartbeats of the collector

export interface Message {
  name: string;
  id: string;
  data: string;
}

export interface Subscriber {
  /** The stream is open. Events committed before this moment are not sent. */
  onReady(): void;
  onEvents(events: Event[]): void;
  /** The collector skipped this many events. */
  onGap(skipped: number): void;
  /** The stream broke. It is retried unless `ended`: then the problem is permanent. */
  onDisconnected(problem: Problem, ended: boolean): void;
}

/** Follow until the signal aborts or the collector refuses the stream. */
export async function follow(url: string, subscriber: Subscriber, signal: AbortSignal): Promise<void> {
  let lastId = "";
  let failures = 0;
  while (!signal.aborted) {
    await untilVisible(signal);
    const hidden = untilHidden(signal);
    try {
      for await (const message of messages(url, lastId, hidden)) {
        lastId = message.id || lastId;
        failures = 0;
        dispatch(message, subscriber);
      }
      throw new Problem(0, "The collector closed the stream.");
    } catch (error) {
      if (signal.aborted) return;
      if (hidden.aborted) continue;
      const problem = error instanceof Problem ? error : new Problem(0, "The connection to the collector was lost.");
      subscriber.onDisconnected(problem, !problem.isTransient);
      if (!problem.isTransient) return;
      await sleep(Math.max(backOffMs(failures++), problem.retryAfterS * 1_000), signal);
    }
  }
}

function dispatch(message: Message, subscriber: Subscriber): void {
  if (message.name === "ready") subscriber.onReady();
  else if (message.name === "events") subscriber.onEvents(parseValue<Event[]>(message.data));
  else if (message.name === "gap") subscriber.onGap((JSON.parse(message.data) as { arrived: number }).arrived);
}

async function* messages(url: string, lastId: string, signal: AbortSignal): AsyncGenerator<Message> {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    if (lastId) headers["Last-Event-ID"] = lastId;
    const either = AbortSignal.any([signal, silence.signal]);
    const response = await request(url, { headers, signal: either, cache: "no-store" });
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader(); // Safari cannot iterate over it
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

/** Parse one message; the collector ends lines with \n only. */
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

/**
 * Return a signal that also aborts when the browser tab is hidden. A hidden tab holds no connection, because a browser
 * opens six to one host; the events that it misses are sent when it resumes.
 */
function untilHidden(signal: AbortSignal): AbortSignal {
  const hidden = new AbortController();
  const onChange = (): void => {
    if (document.hidden) hidden.abort();
  };
  document.addEventListener("visibilitychange", onChange, { signal: AbortSignal.any([signal, hidden.signal]) });
  return AbortSignal.any([signal, hidden.signal]);
}

function untilVisible(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (!document.hidden) return resolve();
    const onChange = (): void => {
      if (!document.hidden) resolve();
    };
    document.addEventListener("visibilitychange", onChange, { signal });
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

function backOffMs(failures: number): number {
  const delay = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** failures);
  return delay * (0.5 + Math.random() / 2);
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
