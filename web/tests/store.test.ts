import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Connection } from "../src/data/connection";
import { FLUSH_MS, Store } from "../src/data/store";
import type { AppInfo, Health } from "../src/wire";
import { Pair } from "./pair";

const APP: AppInfo = {
  app: "fleet",
  title: "Fleet",
  version: "1",
  views: [],
  topics: { positions: { columns: [], time: "time", key: "auv_id" } },
  tables: { status: { columns: [], key: "auv_id" } },
  control_tables: { zones: { columns: [], key: "zone_id", json_schema: {} } },
};

let socket: Pair;
let store: Store;
let health: Health;

beforeEach(() => {
  vi.useFakeTimers();
  socket = new Pair();
  health = {
    status: "healthy",
    timestamp: "",
    checks: { engine: { status: "healthy", detail: "step 1" } },
  };
  store = new Store(APP, new Connection(() => socket), async () => health);
  store.start();
  socket.open();
});

afterEach(() => {
  vi.useRealTimers();
});

test("two views of the same rows share one subscription", () => {
  const [one, releaseOne] = store.acquireTopic("positions", { limit: 10 });
  const [two, releaseTwo] = store.acquireTopic("positions", { limit: 10 });

  expect(one).toBe(two);
  expect(socket.subscriptions().filter((request) => "topic" in request)).toHaveLength(1);
  releaseOne();
  releaseOne();
  expect(socket.sent.some((message) => message.op === "unsubscribe")).toBe(false);
  releaseTwo();
  expect(socket.sent.at(-1)?.op).toBe("unsubscribe");
});

test("another filter is another subscription", () => {
  store.acquireTable("status");
  store.acquireTable("status", { where: "depth > 100" });

  const asked = socket.subscriptions().filter((request) => "table" in request);
  expect(asked.map((request) => request.where)).toEqual([undefined, "depth > 100"]);
});

test("a control table is asked for as one", () => {
  store.acquireTable("zones");

  expect(socket.subscriptions().at(-1)).toMatchObject({ control_table: "zones", snapshot: true });
});

test("a paused page keeps what it shows and goes on with everything", () => {
  const [feed] = store.acquireTopic("positions", { limit: 10 });
  socket.say({ op: "subscribed", id: "s1", channel: "c1", seq: 0 });
  socket.say({ op: "snapshot", channel: "c1", seq: 1, rows: [{ n: 1 }] });
  vi.advanceTimersByTime(FLUSH_MS);
  store.paused.value = true;
  socket.say({ op: "rows", channel: "c1", seq: 2, rows: [{ n: 2 }, { n: 3 }] });
  vi.advanceTimersByTime(10 * FLUSH_MS);

  expect(feed.entries.map((entry) => entry.row["n"])).toEqual([1]);
  expect(store.waiting.value).toBe(2);
  store.paused.value = false;
  expect(feed.entries.map((entry) => entry.row["n"])).toEqual([1, 2, 3]);
});

test("a view opened while paused still gets its first rows", () => {
  store.paused.value = true;
  const [feed] = store.acquireTopic("positions", { limit: 10 });
  socket.say({ op: "subscribed", id: "s1", channel: "c1", seq: 0 });
  socket.say({ op: "snapshot", channel: "c1", seq: 1, rows: [{ n: 1 }] });
  vi.advanceTimersByTime(FLUSH_MS);

  expect(feed.entries).toHaveLength(1);
});

test("the event clock runs on between two reports, but not far", () => {
  const clock = "2026-01-01T12:00:00Z";
  socket.say({
    op: "stats",
    clock,
    lag_ms: 1,
    rows_per_s: 1,
    p95_ms: 1,
    late: 0,
    dropped: 0,
    dead: 0,
    topics: {},
  });
  vi.advanceTimersByTime(FLUSH_MS);
  vi.advanceTimersByTime(1_000);
  const running = store.eventNow.value - Date.parse(clock);
  vi.advanceTimersByTime(60_000);

  expect(running).toBeGreaterThan(0);
  expect(store.eventNow.value - Date.parse(clock)).toBe(2_000);
});

test("an engine that gives no sign of life makes the page say so", async () => {
  await vi.advanceTimersByTimeAsync(0);
  expect(store.engineProblem.value).toBeNull();
  health = {
    ...health,
    checks: { engine: { status: "unhealthy", detail: "no sign of life for 6 s" } },
  };
  await vi.advanceTimersByTimeAsync(5_000);

  expect(store.engineProblem.value).toBe("no sign of life for 6 s");
});
