import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Connection } from "../src/data/connection";
import { TableFeed, TopicFeed } from "../src/data/feed";
import { Pair } from "./pair";

let sockets: Pair[];
let connection: Connection;

beforeEach(() => {
  vi.useFakeTimers();
  sockets = [];
  connection = new Connection(
    () => {
      const pair = new Pair();
      sockets.push(pair);
      return pair;
    },
    () => 1,
  );
});

afterEach(() => {
  connection.stop();
  vi.useRealTimers();
});

function socket(index: number): Pair {
  const found = sockets[index];
  if (!found) throw new Error(`no socket ${index}`);
  return found;
}

test("subscriptions made before the link is up are asked for when it opens", () => {
  connection.start();
  connection.subscribe({ topic: "positions", snapshot: true }, new TopicFeed(10));

  expect(socket(0).sent).toEqual([]);
  socket(0).open();

  expect(socket(0).subscriptions()).toEqual([
    { op: "subscribe", id: "stats", stats: true },
    { op: "subscribe", id: "s1", topic: "positions", snapshot: true },
  ]);
  expect(connection.state.value).toBe("live");
});

test("a lost link is opened again and resumes after the last sequence number", () => {
  const feed = new TopicFeed(10);
  connection.subscribe({ topic: "positions", snapshot: true }, feed);
  connection.start();
  socket(0).open();
  socket(0).say({ op: "subscribed", id: "s1", channel: "c1", seq: 4 });
  socket(0).say({ op: "snapshot", channel: "c1", seq: 4, rows: [{ a: 1 }] });
  socket(0).say({ op: "rows", channel: "c1", seq: 7, rows: [{ a: 2 }] });

  socket(0).drop();
  expect(connection.state.value).toBe("lost");
  expect(connection.lostAt.value).not.toBeNull();
  vi.advanceTimersByTime(250);
  socket(1).open();

  expect(connection.state.value).toBe("live");
  expect(connection.lostAt.value).toBeNull();
  expect(socket(1).subscriptions().at(-1)).toEqual({
    op: "subscribe",
    id: "s1",
    topic: "positions",
    snapshot: false,
    from: 7,
  });
});

test("rows up to the sequence of the new subscription count as caught up", () => {
  const feed = new TopicFeed(10);
  const arrivals: [number, boolean][] = [];
  feed.onArrival = (rows, resumed) => arrivals.push([rows, resumed]);
  connection.subscribe({ topic: "positions" }, feed);
  connection.start();
  socket(0).open();
  socket(0).say({ op: "subscribed", id: "s1", channel: "c1", seq: 1 });
  socket(0).say({ op: "rows", channel: "c1", seq: 2, rows: [{ a: 1 }] });
  socket(0).drop();
  vi.advanceTimersByTime(250);
  socket(1).open();
  socket(1).say({ op: "subscribed", id: "s1", channel: "c9", seq: 5 });
  socket(1).say({ op: "rows", channel: "c9", seq: 5, rows: [{ a: 2 }, { a: 3 }] });
  socket(1).say({ op: "rows", channel: "c9", seq: 6, rows: [{ a: 4 }] });

  expect(arrivals).toEqual([
    [1, false],
    [2, true],
    [1, false],
  ]);
});

test("after a lost resume the next subscription starts from the new sequence", () => {
  const feed = new TableFeed("id");
  connection.subscribe({ table: "status" }, feed);
  connection.start();
  socket(0).open();
  socket(0).say({ op: "subscribed", id: "s1", channel: "c1", seq: 50, key: "id" });
  socket(0).say({ op: "lost", channel: "c1", from: 3, seq: 50 });
  socket(0).say({ op: "snapshot", channel: "c1", seq: 50, rows: [{ id: "b" }] });
  feed.flush();

  expect(feed.resumeFrom()).toBe(50);
  expect([...feed.rows.keys()]).toEqual(["b"]);
});

test("attempts come further and further apart", () => {
  connection.start();
  for (const wait of [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000]) {
    const before = sockets.length;
    sockets.at(-1)?.drop();
    vi.advanceTimersByTime(wait - 1);
    expect(sockets.length).toBe(before);
    vi.advanceTimersByTime(1);
    expect(sockets.length).toBe(before + 1);
  }
});

test("a link that stays silent is given up", () => {
  connection.start();
  socket(0).open();
  vi.advanceTimersByTime(20_000);
  expect(socket(0).sent.filter((message) => message.op === "ping")).toHaveLength(2);
  vi.advanceTimersByTime(10_000);

  expect(connection.state.value).toBe("lost");
});

test("messages of one channel reach every subscription to it", () => {
  const [one, two] = [new TopicFeed(10), new TopicFeed(10)];
  connection.subscribe({ topic: "positions" }, one);
  connection.subscribe({ topic: "positions", limit: 5 }, two);
  connection.start();
  socket(0).open();
  socket(0).say({ op: "subscribed", id: "s1", channel: "c1", seq: 0 });
  socket(0).say({ op: "subscribed", id: "s2", channel: "c1", seq: 0 });
  socket(0).say({ op: "rows", channel: "c1", seq: 1, rows: [{ a: 1 }] });

  expect([one.waiting, two.waiting]).toEqual([1, 1]);
});

test("an error goes to the subscription that it is about", () => {
  const feed = new TopicFeed(10);
  connection.subscribe({ topic: "positions", where: "nonsense(" }, feed);
  connection.start();
  socket(0).open();
  socket(0).say({
    op: "error",
    id: "s1",
    code: "HR201",
    message: "cannot read it",
    hint: "try a > 1",
  });

  expect(feed.error.value?.hint).toBe("try a > 1");
});

test("unsubscribing tells the gateway and ends the delivery", () => {
  const feed = new TopicFeed(10);
  const stop = connection.subscribe({ topic: "positions" }, feed);
  connection.start();
  socket(0).open();
  socket(0).say({ op: "subscribed", id: "s1", channel: "c1", seq: 0 });
  stop();
  socket(0).say({ op: "rows", channel: "c1", seq: 1, rows: [{ a: 1 }] });

  expect(socket(0).sent.at(-1)).toEqual({ op: "unsubscribe", id: "s1" });
  expect(feed.waiting).toBe(0);
});
