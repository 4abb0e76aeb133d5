// The rows of one filter and one range: pages of the list, and what arrives. Nothing is lost or shown twice: when the
// stream stands, the first pages are asked again and merged by id. Arrivals are shown once an animation frame; while
// the list is held (paused, or scrolled away from its newest row) they wait.
import { signal } from "@preact/signals";
import { address, nextOf, type Params, Problem, request } from "../api/client";
import { follow } from "../api/stream";
import type { Event } from "../api/types";
import { merge, MOST_ROWS } from "./buffer";
import { sortKey } from "./time";

const LIST = "api/events";
const MOST_CATCH_UP_PAGES = 30;
const MOST_REACH_PAGES = 20;

interface Page {
  events: Event[];
  next: string | null;
}

export class Listing {
  readonly rows = signal<readonly Event[]>([]);
  readonly phase = signal<"loading" | "ready" | "failed">("loading");
  readonly problem = signal<Problem | null>(null);
  /** What lies before the oldest row; `full`: no more rows are kept. */
  readonly older = signal<"more" | "loading" | "end" | "full" | "failed">("loading");
  readonly tail = signal<"off" | "connecting" | "live" | "away" | "refused">("off");
  readonly tailProblem = signal("");
  /** Events that came while the list was held. */
  readonly waiting = signal(0);
  /** Counts the arrivals, for those who show counts. */
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

  /** Load the first page; a range that lasts until now is also followed. */
  start(): void {
    this.#loaded = this.#load();
    if (this.#to === null) void this.#follow();
  }

  close(): void {
    this.#stop.abort();
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  /** Begin anew with the newest page. */
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

  /** Load the next page, and further ones while they are empty: a search may end a page early. */
  async more(): Promise<void> {
    if (this.older.value !== "more" && this.older.value !== "failed") return;
    this.older.value = "loading";
    try {
      let found = 0;
      while (this.#next !== null && !found) {
        const page = await this.#page(this.#next);
        this.#next = page.next;
        found = page.events.length;
        this.#show(page.events);
      }
      this.#settle();
    } catch (error) {
      if (!(error instanceof Problem)) return;
      this.problem.value = error;
      this.older.value = "failed";
    }
  }

  /** Load pages until an event is among the rows, as far as is reasonable. */
  async reach(id: number): Promise<void> {
    await this.#loaded;
    for (let pages = 0; pages < MOST_REACH_PAGES && !this.#ids.has(id) && this.older.value === "more"; pages++) {
      await this.more();
    }
  }

  async #load(): Promise<void> {
    this.phase.value = "loading";
    this.older.value = "loading";
    try {
      const page = await this.#page(address(LIST, this.#params()));
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
      address(`${LIST}/stream`, this.#filter),
      {
        onReady: () => void this.#catchUp(),
        onEvents: (events) => this.#arrive(events),
        onGap: () => void this.#catchUp(),
        onAway: (problem, ended) => {
          this.tail.value = ended ? "refused" : "away";
          this.tailProblem.value = problem.message;
        },
      },
      signal,
    );
  }

  /** Ask the newest pages again until they meet the rows; those that nothing connects to them any more give way. */
  async #catchUp(): Promise<void> {
    this.tail.value = "live";
    try {
      await this.#loaded;
      if (this.phase.value === "failed") {
        if (this.problem.value?.passes) this.#loaded = this.#load();
        return;
      }
      const known = new Set(this.#ids);
      const missed: Event[] = [];
      let next: string | null = address(LIST, this.#params());
      for (let pages = 0; next !== null && pages < MOST_CATCH_UP_PAGES; pages++) {
        const page: Page = await this.#page(next);
        missed.push(...page.events);
        if (page.events.some((event) => known.has(event.id))) return this.#arrive(missed);
        next = page.next;
      }
      if (next === null || known.size === 0) return this.#arrive(missed);
      if (this.#isHeld) this.#overflowed = true;
      else this.restart();
    } catch {
      // the stream tells of what is away, and is ready again afterwards
    }
  }

  #arrive(events: Event[]): void {
    const from = sortKey(this.#from);
    for (const event of events) {
      if (!this.#ids.has(event.id) && sortKey(event.timestamp) >= from) this.#incoming.set(event.id, event);
    }
    if (this.#incoming.size > MOST_ROWS) {
      this.#overflowed = true;
      this.#incoming = new Map([...this.#incoming].slice(-MOST_ROWS));
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#frame || (!this.#incoming.size && !this.waiting.value)) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.arrivals.value++;
      if (this.#isHeld) this.waiting.value = this.#incoming.size;
      else if (this.phase.value === "ready") this.#flush(); // else: when the first page is there
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
    const kept = rows.length > MOST_ROWS ? rows.slice(0, MOST_ROWS) : rows;
    this.#ids = new Set(kept.map((event) => event.id));
    this.rows.value = kept;
  }

  #settle(): void {
    if (this.older.value === "loading" && this.#next !== null) this.older.value = "more";
    if (this.#next === null) this.older.value = "end";
    if (this.#isFull) this.older.value = "full";
  }

  get #isFull(): boolean {
    return this.rows.value.length >= MOST_ROWS;
  }

  #params(): Params {
    const range = [["from", this.#from], ...(this.#to === null ? [] : [["to", this.#to] as const])] as Params;
    return [...this.#filter, ...range];
  }

  async #page(url: string): Promise<Page> {
    const answer = await request(url, { signal: this.#stop.signal });
    return { events: (await answer.json()) as Event[], next: nextOf(answer, LIST) };
  }
}
