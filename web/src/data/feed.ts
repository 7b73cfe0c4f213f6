import { signal } from "@preact/signals";
import type { ChannelMessage, Column, Key, Row, Subscribed, WireError } from "../wire";
import type { Sink } from "./connection";

/** A topic's row with an id that stays the same while the page is open. */
export interface Entry {
  id: number;
  row: Row;
}

export function keyText(key: Key): string {
  return Array.isArray(key) ? JSON.stringify(key) : String(key);
}

export function rowKey(row: Row, key: string | string[]): string {
  return Array.isArray(key)
    ? JSON.stringify(key.map((name) => row[name] ?? null))
    : String(row[key] ?? null);
}

/**
 * What one subscription has delivered. Messages wait until `flush`, so the page repaints at the
 * pace of the store's clock whatever the data rate, and a paused page holds still.
 */
abstract class Feed implements Sink {
  /** Grows with every flush that changed the rows. */
  readonly revision = signal(0);
  readonly error = signal<WireError | null>(null);
  readonly columns = signal<Column[]>([]);
  /** Wall-clock ms of the last data frame; null until the first. */
  readonly heardAt = signal<number | null>(null);
  /** Rows that the server left out because this page was too slow. */
  readonly dropped = signal(0);
  /** Called with each data frame's row count and whether it belongs to a resume. */
  onArrival: ((rows: number, resumed: boolean) => void) | null = null;

  #seq: number | null = null;
  #resumedTo = -1;
  #heardAt: number | null = null;

  resumeFrom(): number | null {
    return this.#seq;
  }

  subscribed(message: Subscribed): void {
    this.error.value = null;
    if (message.columns) this.columns.value = message.columns;
    if (this.#seq !== null) this.#resumedTo = message.seq;
  }

  message(message: ChannelMessage): void {
    if (message.op === "dropped") {
      this.dropped.value += message.count;
      return;
    }
    if (message.op === "lost") {
      this.#seq = message.seq;
      return;
    }
    this.#seq = Math.max(message.seq, this.#seq ?? 0);
    this.#heardAt = Date.now();
    const resumed = message.seq <= this.#resumedTo;
    if (message.op === "snapshot") this.replace(message.rows);
    else if (message.op === "rows") this.append(message.rows);
    else this.change(message.upserts, message.deletes);
    const count =
      message.op === "changes"
        ? message.upserts.length + message.deletes.length
        : message.rows.length;
    this.onArrival?.(count, resumed);
  }

  failed(error: WireError): void {
    this.error.value = error;
  }

  /** Makes waiting rows visible; true when something changed. */
  flush(): boolean {
    if (this.heardAt.value !== this.#heardAt) this.heardAt.value = this.#heardAt;
    if (!this.apply()) return false;
    this.revision.value += 1;
    return true;
  }

  abstract get waiting(): number;
  protected abstract apply(): boolean;
  protected abstract replace(rows: Row[]): void;
  protected abstract append(rows: Row[]): void;
  protected abstract change(upserts: Row[], deletes: Key[]): void;
}

/** The newest `limit` rows of a topic, oldest first. */
export class TopicFeed extends Feed {
  entries: Entry[] = [];
  /** Rows seen since the page opened, the snapshot included. */
  seen = 0;
  readonly limit: number;
  #pending: Row[] = [];
  #reset = false;
  #nextId = 1;

  constructor(limit: number) {
    super();
    this.limit = limit;
  }

  get waiting(): number {
    return this.#pending.length;
  }

  protected replace(rows: Row[]): void {
    this.#reset = true;
    this.#pending = rows.slice(-this.limit);
  }

  protected append(rows: Row[]): void {
    const pending = this.#pending;
    for (const row of rows) pending.push(row);
    if (pending.length > 2 * this.limit) this.#pending = pending.slice(-this.limit);
  }

  protected change(upserts: Row[]): void {
    this.append(upserts);
  }

  protected apply(): boolean {
    if (this.#pending.length === 0 && !this.#reset) return false;
    const fresh = this.#pending.map((row) => ({ id: this.#nextId++, row }));
    const kept = this.#reset ? [] : this.entries;
    this.seen += fresh.length;
    this.entries = [...kept, ...fresh].slice(-this.limit);
    this.#pending = [];
    this.#reset = false;
    return true;
  }
}

/** The latest row per key of a table or control table. */
export class TableFeed extends Feed {
  readonly rows = new Map<string, Row>();
  /** What the last flush changed: for views that keep something per key. */
  changed: { reset: boolean; upserts: Map<string, Row>; deletes: Set<string> } = {
    reset: true,
    upserts: new Map(),
    deletes: new Set(),
  };
  #key: string | string[];
  #upserts = new Map<string, Row>();
  #deletes = new Set<string>();
  #reset = false;

  constructor(key: string | string[]) {
    super();
    this.#key = key;
  }

  override subscribed(message: Subscribed): void {
    super.subscribed(message);
    if (message.key) this.#key = message.key;
  }

  get waiting(): number {
    return this.#upserts.size + this.#deletes.size;
  }

  protected replace(rows: Row[]): void {
    this.#reset = true;
    this.#upserts = new Map();
    this.#deletes = new Set();
    this.append(rows);
  }

  protected append(rows: Row[]): void {
    for (const row of rows) {
      const key = rowKey(row, this.#key);
      this.#deletes.delete(key);
      this.#upserts.set(key, row);
    }
  }

  protected change(upserts: Row[], deletes: Key[]): void {
    this.append(upserts);
    for (const key of deletes) {
      const text = keyText(key);
      this.#upserts.delete(text);
      this.#deletes.add(text);
    }
  }

  protected apply(): boolean {
    if (!this.#reset && this.waiting === 0) return false;
    if (this.#reset) this.rows.clear();
    for (const [key, row] of this.#upserts) this.rows.set(key, row);
    for (const key of this.#deletes) this.rows.delete(key);
    this.changed = { reset: this.#reset, upserts: this.#upserts, deletes: this.#deletes };
    this.#upserts = new Map();
    this.#deletes = new Set();
    this.#reset = false;
    return true;
  }
}
