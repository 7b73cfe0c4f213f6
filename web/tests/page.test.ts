import { expect, test } from "vitest";
import { age, cell, compact, latitude, longitude, number } from "../src/data/format";
import { sentence } from "../src/data/row";
import { arrange } from "../src/shell/arrange";
import { goLetters } from "../src/shell/keyboard";
import { curlFor } from "../src/ui/curl";
import { csv, sorted, visible } from "../src/views/tableRows";
import type { AppInfo, View } from "../src/wire";

const plain = (text: string) => text.replaceAll("\u2009", " ");
const view = (kind: string, name: string, place?: string) =>
  ({ kind, name, title: name, place }) as unknown as View;

test("the first large view is the hero, lists stand beside, counters above", () => {
  const slots = arrange([
    view("counter", "c"),
    view("map", "m"),
    view("events", "e"),
    view("chart", "h"),
    view("table", "t"),
  ]);

  expect(
    Object.entries(slots).map(([slot, views]) => [slot, views.map(({ name }) => name)]),
  ).toEqual([
    ["strip", ["c"]],
    ["hero", ["m"]],
    ["side", ["e"]],
    ["below", ["h", "t"]],
  ]);
});

test("counters stand above whatever place they are given", () => {
  const slots = arrange([
    view("counter", "c", "side"),
    view("counter", "d", "hero"),
    view("map", "m", "hero"),
  ]);

  expect(slots.strip.map(({ name }) => name)).toEqual(["c", "d"]);
  expect(slots.hero.map(({ name }) => name)).toEqual(["m"]);
});

test("the words of an event are a column or a sentence with columns in it", () => {
  const row = { message: "too deep", auv_id: "a-1", depth: 310.25 };

  expect(sentence(row, "message")).toBe("too deep");
  expect(sentence(row, "{auv_id} at {depth} m, {gone}")).toBe("a-1 at 310.3 m, –");
});

test("a declared place wins", () => {
  const slots = arrange([
    view("map", "m"),
    view("chart", "h", "hero"),
    view("events", "e", "below"),
  ]);

  expect(slots.hero.map(({ name }) => name)).toEqual(["h"]);
  expect(slots.below.map(({ name }) => name)).toEqual(["m", "e"]);
});

test("every view has its own letter to go to", () => {
  const letters = goLetters([
    { name: "vehicles", title: "Vehicles" },
    { name: "violations", title: "Violations" },
    { name: "v", title: "V" },
  ]);

  expect([...letters.entries()]).toEqual([
    ["v", "vehicles"],
    ["i", "violations"],
    ["a", "v"],
  ]);
});

test("numbers, ages and places read well", () => {
  expect([1234567.5, -0.04, 0, 12.345].map((value) => plain(number(value)))).toEqual([
    "1 234 567.5",
    "−0.0400",
    "0",
    "12.35",
  ]);
  expect([999, 12_345, 123_456, 7_654_321].map((value) => plain(compact(value)))).toEqual([
    "999",
    "12.3k",
    "123k",
    "7.7M",
  ]);
  expect([900, 61_000, 3_700_000, 90_000_000].map((ms) => plain(age(ms)))).toEqual([
    "0 s",
    "1 min",
    "1 h 1 min",
    "1 d 1 h",
  ]);
  expect(plain(`${latitude(-36.5, 1)} ${longitude(-190, 0)}`)).toBe("36.5° S 170° E");
  expect(cell("2026-01-01T12:00:00.5+00:00", "Datetime(time_unit='us')")).toBe(
    "2026-01-01 12:00:00",
  );
  expect(cell(null, "Float64")).toBe("–");
});

test("rows are sorted by value with nulls last both ways", () => {
  const rows = [{ n: 2 }, { n: null }, { n: 10 }];

  expect(sorted(rows, { column: "n", descending: false }).map(({ n }) => n)).toEqual([2, 10, null]);
  expect(sorted(rows, { column: "n", descending: true }).map(({ n }) => n)).toEqual([10, 2, null]);
});

test("CSV quotes what must be quoted", () => {
  const columns = [
    { name: "a", type: "String" },
    { name: "b,c", type: "Float64" },
  ];

  expect(
    csv(columns, [
      { a: 'say "hi"\n', "b,c": null },
      { a: "x", "b,c": 1.5 },
    ]),
  ).toBe('a,"b,c"\r\n"say ""hi""\n",\r\nx,1.5\r\n');
});

test("only the rows in sight are drawn", () => {
  expect(visible(2_500, 300, 25, 1_000)).toEqual({ from: 94, to: 118 });
  expect(visible(0, 300, 25, 3)).toEqual({ from: 0, to: 3 });
  expect(visible(9_000, 300, 25, 3)).toEqual({ from: 3, to: 3 });
});

test("an empty view offers a command that sends a row", () => {
  const app = {
    topics: {
      positions: {
        columns: [
          { name: "auv_id", type: "String" },
          { name: "depth", type: "Float64" },
        ],
        time: null,
        key: null,
      },
    },
  } as unknown as AppInfo;

  expect(curlFor(app, "positions", "http://host:8000/")).toBe(
    `curl -X POST http://host:8000/topics/positions -H 'content-type: application/json' -d '{"auv_id":"demo-1","depth":1.5}'`,
  );
  expect(curlFor(app, "nothing", "http://host:8000/")).toBeNull();
});
