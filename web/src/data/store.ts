import { batch, computed, effect, signal } from "@preact/signals";
import type { AppInfo, Health, Row, SlowPolicy, Stats, Subscription, TopicStats } from "../wire";
import type { Connection } from "./connection";
import { TableFeed, TopicFeed } from "./feed";

/** At most five visual updates a second, whatever the data rate. */
export const FLUSH_MS = 200;
const HEALTH_MS = 5_000;
const STATS_KEPT = 3_600;
const CAUGHT_UP_SHOWN_MS = 8_000;

export interface StatsPoint {
  /** Wall-clock ms. */
  at: number;
  stats: Stats;
}

interface Held<F> {
  feed: F;
  users: number;
  release: () => void;
}

export interface FeedOptions {
  where?: string | null;
  limit?: number;
  policy?: SlowPolicy;
}

/** Everything the page knows, keyed by what was subscribed to. */
export class Store {
  readonly app: AppInfo;
  readonly connection: Connection;
  readonly paused = signal(false);
  readonly stats = signal<Stats | null>(null);
  readonly statsAt = signal<number | null>(null);
  /** How the components are, as of the last answer; null until the first. */
  readonly health = signal<Health | null>(null);
  readonly statsHistory: StatsPoint[] = [];
  /** Wall-clock ms, once a second: for ages. */
  readonly now = signal(Date.now());
  /** Rows received after the last lost link that were sent while it was down; null hides it. */
  readonly caughtUp = signal<number | null>(null);
  /** Rows held back while paused. */
  readonly waiting = signal(0);

  #topics = new Map<string, Held<TopicFeed>>();
  #tables = new Map<string, Held<TableFeed>>();
  #caughtUpTimer: ReturnType<typeof setTimeout> | undefined;
  #pendingStats: Stats | null = null;

  readonly #askHealth: () => Promise<Health>;

  constructor(app: AppInfo, connection: Connection, askHealth: () => Promise<Health>) {
    this.app = app;
    this.connection = connection;
    this.#askHealth = askHealth;
    connection.onStats = (stats) => {
      this.#pendingStats = stats;
      this.statsHistory.push({ at: Date.now(), stats });
      if (this.statsHistory.length > STATS_KEPT) this.statsHistory.shift();
    };
    connection.onResume = () => {
      this.caughtUp.value = 0;
      clearTimeout(this.#caughtUpTimer);
      this.#caughtUpTimer = setTimeout(() => {
        this.caughtUp.value = null;
      }, CAUGHT_UP_SHOWN_MS);
    };
  }

  start(): void {
    this.connection.start();
    setInterval(() => this.flush(), FLUSH_MS);
    setInterval(() => {
      this.now.value = Date.now();
    }, 1_000);
    setInterval(() => void this.#checkHealth(), HEALTH_MS);
    void this.#checkHealth();
    effect(() => {
      if (!this.paused.value) this.flush();
    });
  }

  async #checkHealth(): Promise<void> {
    try {
      this.health.value = await this.#askHealth();
    } catch {
      // A gateway that does not answer shows as a lost connection.
    }
  }

  /** What is wrong with the component that makes the data; null while it is well. */
  readonly engineProblem = computed(() => {
    const engine = this.health.value?.checks["engine"];
    return engine?.status === "unhealthy" ? engine.detail : null;
  });

  flush(): void {
    batch(() => {
      if (this.paused.peek()) {
        for (const feed of this.#feeds()) if (feed.revision.peek() === 0) feed.flush();
        this.waiting.value = this.#sumWaiting();
        return;
      }
      this.waiting.value = 0;
      if (this.#pendingStats) {
        this.stats.value = this.#pendingStats;
        this.statsAt.value = Date.now();
        this.#pendingStats = null;
      }
      for (const feed of this.#feeds()) feed.flush();
    });
  }

  #sumWaiting(): number {
    let sum = 0;
    for (const feed of this.#feeds()) sum += feed.waiting;
    return sum;
  }

  *#feeds(): Iterable<TopicFeed | TableFeed> {
    for (const { feed } of this.#topics.values()) yield feed;
    for (const { feed } of this.#tables.values()) yield feed;
  }

  /** Shares one subscription among all views that ask for the same rows. */
  acquireTopic(name: string, options: FeedOptions = {}): [TopicFeed, () => void] {
    const limit = options.limit ?? 1_000;
    const request: Subscription = {
      topic: name,
      snapshot: true,
      limit,
      policy: options.policy ?? "drop_oldest",
      ...(options.where ? { where: options.where } : {}),
    };
    return this.#acquire(this.#topics, request, () => new TopicFeed(limit));
  }

  acquireTable(name: string, options: FeedOptions = {}): [TableFeed, () => void] {
    const control = this.app.control_tables[name];
    const key = control?.key ?? this.app.tables[name]?.key ?? "key";
    const request: Subscription = {
      ...(control ? { control_table: name } : { table: name }),
      snapshot: true,
      policy: options.policy ?? "latest",
      ...(control ? {} : { every_ms: FLUSH_MS }),
      ...(options.limit ? { limit: options.limit } : {}),
      ...(options.where ? { where: options.where } : {}),
    };
    return this.#acquire(this.#tables, request, () => new TableFeed(key));
  }

  #acquire<F extends TopicFeed | TableFeed>(
    held: Map<string, Held<F>>,
    request: Subscription,
    make: () => F,
  ): [F, () => void] {
    const id = JSON.stringify(request);
    let entry = held.get(id);
    if (!entry) {
      const feed = make();
      feed.onArrival = (rows, resumed) => {
        if (resumed && this.caughtUp.peek() !== null) {
          this.caughtUp.value = (this.caughtUp.peek() ?? 0) + rows;
        }
      };
      entry = { feed, users: 0, release: this.connection.subscribe(request, feed) };
      held.set(id, entry);
    }
    const taken = entry;
    taken.users += 1;
    let released = false;
    return [
      taken.feed,
      () => {
        if (released) return;
        released = true;
        taken.users -= 1;
        if (taken.users > 0) return;
        taken.release();
        held.delete(id);
      },
    ];
  }

  /** The rows of a table that some view already shows whole; empty when none does. */
  tableRows(name: string): Map<string, Row> {
    const control = name in this.app.control_tables;
    for (const [id, { feed }] of this.#tables) {
      const request = JSON.parse(id) as Subscription;
      const named = control
        ? "control_table" in request && request.control_table === name
        : "table" in request && request.table === name;
      if (named && !request.where) return feed.rows;
    }
    return new Map();
  }

  topicStats(name: string): TopicStats | null {
    return this.stats.value?.topics[name] ?? null;
  }

  /** Event time now, in ms: the engine's clock, carried on by the wall between its reports. */
  readonly eventNow = computed(() => {
    const stats = this.stats.value;
    const at = this.statsAt.value;
    if (!stats?.clock || at === null) return this.now.value;
    return Date.parse(stats.clock) + Math.max(0, Math.min(this.now.value - at, 2_000));
  });
}
