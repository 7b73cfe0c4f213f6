import { expect, test } from "vitest";
import { rowKey, TableFeed, TopicFeed } from "../src/data/feed";

const channel = "c1";

test("rows wait for the flush, then show oldest first", () => {
  const feed = new TopicFeed(10);
  feed.message({ op: "rows", channel, seq: 1, rows: [{ n: 1 }, { n: 2 }] });

  expect(feed.entries).toEqual([]);
  expect(feed.waiting).toBe(2);
  expect(feed.flush()).toBe(true);
  expect(feed.entries.map((entry) => entry.row["n"])).toEqual([1, 2]);
  expect(feed.flush()).toBe(false);
});

test("a topic keeps its newest rows and their identities", () => {
  const feed = new TopicFeed(3);
  feed.message({ op: "rows", channel, seq: 1, rows: [{ n: 1 }, { n: 2 }] });
  feed.flush();
  const second = feed.entries[1];
  feed.message({ op: "rows", channel, seq: 2, rows: [{ n: 3 }, { n: 4 }] });
  feed.flush();

  expect(feed.entries.map((entry) => entry.row["n"])).toEqual([2, 3, 4]);
  expect(feed.entries[0]).toBe(second);
  expect(feed.seen).toBe(4);
});

test("what waits stays bounded while nobody looks", () => {
  const feed = new TopicFeed(5);
  for (let seq = 0; seq < 100; seq += 1) {
    feed.message({ op: "rows", channel, seq, rows: [{ seq }] });
  }

  expect(feed.waiting).toBeLessThanOrEqual(10);
  feed.flush();
  expect(feed.entries.map((entry) => entry.row["seq"])).toEqual([95, 96, 97, 98, 99]);
});

test("a snapshot replaces what was there", () => {
  const feed = new TopicFeed(10);
  feed.message({ op: "rows", channel, seq: 1, rows: [{ n: 1 }] });
  feed.flush();
  feed.message({ op: "snapshot", channel, seq: 9, rows: [{ n: 7 }] });
  feed.flush();

  expect(feed.entries.map((entry) => entry.row["n"])).toEqual([7]);
  expect(feed.resumeFrom()).toBe(9);
});

test("an empty snapshot is a change too", () => {
  const feed = new TableFeed("id");
  feed.message({ op: "snapshot", channel, seq: 1, rows: [{ id: "a" }] });
  feed.flush();
  feed.message({ op: "snapshot", channel, seq: 2, rows: [] });

  expect(feed.flush()).toBe(true);
  expect(feed.rows.size).toBe(0);
});

test("a table shows the last word on each key", () => {
  const feed = new TableFeed("id");
  feed.message({
    op: "snapshot",
    channel,
    seq: 1,
    rows: [
      { id: "a", v: 1 },
      { id: "b", v: 1 },
    ],
  });
  feed.flush();
  feed.message({ op: "changes", channel, seq: 2, upserts: [{ id: "a", v: 2 }], deletes: ["b"] });
  feed.message({ op: "changes", channel, seq: 3, upserts: [{ id: "b", v: 3 }], deletes: ["a"] });
  feed.flush();

  expect([...feed.rows]).toEqual([["b", { id: "b", v: 3 }]]);
  expect([...feed.changed.deletes]).toEqual(["a"]);
});

test("keys of several columns are one key", () => {
  const feed = new TableFeed(["zone", "auv"]);
  feed.message({ op: "changes", channel, seq: 1, upserts: [{ zone: 1, auv: "x" }], deletes: [] });
  feed.message({ op: "changes", channel, seq: 2, upserts: [], deletes: [[1, "x"]] });
  feed.flush();

  expect(feed.rows.size).toBe(0);
  expect(rowKey({ zone: 1, auv: null }, ["zone", "auv"])).toBe("[1,null]");
});

test("rows left out by the gateway are counted", () => {
  const feed = new TopicFeed(10);
  feed.message({ op: "dropped", channel, count: 4 });
  feed.message({ op: "dropped", channel, count: 3 });

  expect(feed.dropped.value).toBe(7);
});
