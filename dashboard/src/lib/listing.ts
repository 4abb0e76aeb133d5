// The rows of one filter and one range: pages of the list, and events from the stream. No event is lost or shown twice:
// each time the stream opens, the newest pages are requested again and merged by id. New events are shown once an
// animation frame; while the list is held (paused, or scrolled away from its newest row) they wait.
import { signal } from "@preact/signals";
import { nextOf, type Params, Problem, request, urlOf } from "../api/client";
import { follow } from "../api/stream";
import type { Event } from "../api/types";
import { merge, MAX_ROWS } from "./buffer";
import { parseValue } from "./json";
import { sortKey } from "./time";

const LIST = "api/events";
const MAX_CATCH_UP_PAGES = 30;
const MAX_REACH_PAGES = 20;

interface Page {
  events: Event[];
  next: string | null;
}

export class Listing {
  readonly rows = signal<readonly Event[]>([]);
  readonly phase = signal<"loading" | "ready" | "failed">("loading");
  readonly problem = signal<Problem | null>(null);
  /** Whether there are events older than the last row; `full`: the list has reached `MAX_ROWS`. */
  readonly older = signal<"more" | "loading" | "end" | "full" | "failed">("loading");
  readonly tail = signal<"off" | "connecting" | "live" | "reconnecting" | "refused">("off");
  readonly tailProblem = signal("");
  /** The number of events that arrived while the list is held. */
  readonly waiting = signal(0);
  /** Changes when events have arrived, so that counts can be refreshed. */
  readonly arrivals = signal(0);

  #incoming = new Map<number, Event>();
  #ids = new Set<number>();
  #isHeld = false;
  #overflowed = false;
  #next: string | null = null;
  #frame = 0;
  #stop = new AbortController();
  #loaded: Promise<void> = Promise.resolve();

  readonly #filter: Params;
  readonly #from: string;
  readonly #to: string | null;

  constructor(filter: Params, from: string, to: string | null) {
    this.#filter = filter;
    this.#from = from;
    this.#to = to;
  }

  /** Load the first page; a range until now is also followed. */
  start(): void {
    this.#loaded = this.#load();
    if (this.#to === null) void this.#follow();
  }

  close(): void {
    this.#stop.abort();
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  /** Start again from the newest page. */
  restart(): void {
    this.close();
    this.#stop = new AbortController();
    this.#incoming.clear();
    this.#overflowed = false;
    this.waiting.value = 0;
    this.start();
  }

  hold(isHeld: boolean): void {
    this.#isHeld = isHeld;
    if (isHeld) return;
    if (this.#overflowed) this.restart();
    else this.#schedule();
  }

  /** Load the next page, and further ones while pages are empty: a search may return a page before it has a match. */
  async more(): Promise<void> {
    if (this.older.value !== "more" && this.older.value !== "failed") return;
    this.older.value = "loading";
    try {
      let loaded = 0;
      while (this.#next !== null && !loaded) {
        const page = await this.#page(this.#next);
        this.#next = page.next;
        loaded = page.events.length;
        this.#show(page.events);
      }
      this.#settle();
    } catch (error) {
      if (!(error instanceof Problem)) return;
      this.problem.value = error;
      this.older.value = "failed";
    }
  }

  /** Load pages, up to a maximum, until an event is among the rows. */
  async reach(id: number): Promise<void> {
    await this.#loaded;
    for (let pages = 0; pages < MAX_REACH_PAGES && !this.#ids.has(id) && this.older.value === "more"; pages++) {
      await this.more();
    }
  }

  async #load(): Promise<void> {
    this.phase.value = "loading";
    this.older.value = "loading";
    try {
      const page = await this.#page(urlOf(LIST, this.#params()));
      this.#next = page.next;
      this.#replace(page.events);
      this.problem.value = null;
      this.phase.value = "ready";
      this.#settle();
      this.#schedule();
    } catch (error) {
      if (!(error instanceof Problem)) return;
      this.problem.value = error;
      this.phase.value = "failed";
    }
  }

  async #follow(): Promise<void> {
    this.tail.value = "connecting";
    const signal = this.#stop.signal;
    await follow(
      urlOf(`${LIST}/stream`, this.#filter),
      {
        onReady: () => void this.#catchUp(),
        onEvents: (events) => this.#receive(events),
        onGap: () => void this.#catchUp(),
        onDisconnected: (problem, ended) => {
          this.tail.value = ended ? "refused" : "reconnecting";
          this.tailProblem.value = problem.message;
        },
      },
      signal,
    );
  }

  /**
   * Request the newest pages until one contains a known row. If the gap is larger than that, start again from the
   * newest page: the rows could not be joined to it without a hole.
   */
  async #catchUp(): Promise<void> {
    this.tail.value = "live";
    try {
      await this.#loaded;
      if (this.phase.value === "failed") {
        if (this.problem.value?.isTransient) this.#loaded = this.#load();
        return;
      }
      const known = new Set(this.#ids);
      const missed: Event[] = [];
      let next: string | null = urlOf(LIST, this.#params());
      for (let pages = 0; next !== null && pages < MAX_CATCH_UP_PAGES; pages++) {
        const page: Page = await this.#page(next);
        missed.push(...page.events);
        if (page.events.some((event) => known.has(event.id))) return this.#receive(missed);
        next = page.next;
      }
      if (next === null || known.size === 0) return this.#receive(missed);
      if (this.#isHeld) this.#overflowed = true;
      else this.restart();
    } catch {
      // the stream reports a lost connection, and calls this again once it is open
    }
  }

  #receive(events: Event[]): void {
    const from = sortKey(this.#from);
    for (const event of events) {
      if (!this.#ids.has(event.id) && sortKey(event.timestamp) >= from) this.#incoming.set(event.id, event);
    }
    if (this.#incoming.size > MAX_ROWS) {
      this.#overflowed = true;
      this.#incoming = new Map([...this.#incoming].slice(-MAX_ROWS));
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#frame || (!this.#incoming.size && !this.waiting.value)) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.arrivals.value++;
      if (this.#isHeld) this.waiting.value = this.#incoming.size;
      else if (this.phase.value === "ready") this.#flush(); // else: after the first page is loaded
    });
  }

  #flush(): void {
    const events = [...this.#incoming.values()];
    this.#incoming.clear();
    this.waiting.value = 0;
    this.#show(events);
    if (this.#isFull && this.older.value !== "loading") this.older.value = "full";
  }

  #show(events: Event[]): void {
    if (events.length) this.#replace(merge(this.rows.value, events));
  }

  #replace(rows: Event[]): void {
    const kept = rows.length > MAX_ROWS ? rows.slice(0, MAX_ROWS) : rows;
    this.#ids = new Set(kept.map((event) => event.id));
    this.rows.value = kept;
  }

  #settle(): void {
    if (this.older.value === "loading" && this.#next !== null) this.older.value = "more";
    if (this.#next === null) this.older.value = "end";
    if (this.#isFull) this.older.value = "full";
  }

  get #isFull(): boolean {
    return this.rows.value.length >= MAX_ROWS;
  }

  #params(): Params {
    const range = [["from", this.#from], ...(this.#to === null ? [] : [["to", this.#to] as const])] as Params;
    return [...this.#filter, ...range];
  }

  async #page(url: string): Promise<Page> {
    const response = await request(url, { signal: this.#stop.signal });
    return { events: parseValue<Event[]>(await response.text()), next: nextOf(response, LIST) };
  }
}
