import { expect, test } from "vitest";
import { align, bandStretches, choose, isolated, perSecond, withGaps } from "../src/chart/series";

const minute = (n: number) => `2026-01-01T00:${String(n).padStart(2, "0")}:00Z`;
const second = (n: number) => Date.parse(minute(n)) / 1_000;

test("rows become one line for each value of the group", () => {
  const rows = [
    { at: minute(1), zone: "b", depth: 2 },
    { at: minute(0), zone: "a", depth: 1 },
    { at: minute(1), zone: "a", depth: 3 },
  ];
  const { x, lines } = align(rows, { x: "at", y: ["depth"], by: "zone" });

  expect(x).toEqual([second(0), second(1)]);
  expect(lines).toEqual([
    { label: "a", values: [1, 3] },
    { label: "b", values: [null, 2] },
  ]);
});

test("a window that is updated replaces what it said", () => {
  const rows = [
    { at: minute(1), n: 1 },
    { at: minute(1), n: 5 },
  ];

  expect(align(rows, { x: "at", y: ["n"], by: null }).lines).toEqual([{ label: "n", values: [5] }]);
});

test("nulls and rows without a time draw nothing", () => {
  const rows = [
    { at: null, n: 1 },
    { at: minute(1), n: null },
    { at: "soon", n: 3 },
  ];
  const { x, lines } = align(rows, { x: "at", y: ["n"], by: null });

  expect(x).toEqual([second(1)]);
  expect(lines[0]?.values).toEqual([null]);
});

test("window bounds are kept for the cursor", () => {
  const rows = [{ window_start: minute(0), window_end: minute(5), n: 1 }];

  expect(align(rows, { x: "window_end", y: ["n"], by: null }).starts).toEqual([second(0)]);
});

test("a hole in time is a gap", () => {
  expect(withGaps([0, 10, 20, 60, 70])).toEqual([0, 10, 20, 30, 60, 70]);
  expect(withGaps([0, 10, 20, 30])).toEqual([0, 10, 20, 30]);
  expect(withGaps([5])).toEqual([5]);
});

test("lines keep their places while they have points", () => {
  const line = (label: string, points: number) => ({ label, values: Array(points).fill(1) });
  const lines = [line("a", 1), line("b", 9), line("c", 5), line("d", 7)];

  expect(choose(lines, [], 2)).toEqual(["b", "d"]);
  expect(choose(lines, ["a", "c"], 2)).toEqual(["a", "c"]);
  expect(choose(lines, ["gone", "c"], 2)).toEqual(["c", "b"]);
});

test("only points without neighbours need a dot", () => {
  expect(isolated([1, null, 2, 3, null, 4])).toEqual([0, 5]);
});

test("a rate is the change between two neighbours, not over a gap", () => {
  const data = {
    x: [0, 10, 20, 30, 40],
    starts: [],
    lines: [{ label: "n", values: [0, 50, null, 90, 80] }],
  };

  expect(perSecond(data).lines[0]?.values).toEqual([null, 5, null, null, -1]);
});

test("bounds and marks belong to the first column", () => {
  const rows = [
    { at: minute(0), mean: 2, n: 5, lcl: 1, ucl: 3, out: false },
    { at: minute(1), mean: 9, n: 5, lcl: 1, ucl: 3, out: true },
    { at: minute(2), mean: 2, n: 5, lcl: null, ucl: 3, out: null },
  ];
  const shape = { x: "at", y: ["mean", "n"], by: null, mark: "out" };
  const { lines } = align(rows, { ...shape, band: ["lcl", "ucl"] });

  expect(lines).toEqual([
    {
      label: "mean",
      values: [2, 9, 2],
      low: [1, 1, null],
      high: [3, 3, 3],
      marked: [false, true, false],
    },
    { label: "n", values: [5, 5, 5] },
  ]);
});

test("a band ends where a bound is unknown", () => {
  const line = { label: "a", values: [], low: [1, 1, null, 1, 1], high: [2, 2, 2, null, 2] };

  expect(bandStretches(line)).toEqual([
    [0, 1],
    [4, 4],
  ]);
});
