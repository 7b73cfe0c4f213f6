import { expect, test } from "vitest";
import {
  addCorner,
  areaFrom,
  cornersText,
  crossesItself,
  moveCorner,
  problemOf,
  removeCorner,
  shapeOf,
  withCornersText,
} from "../src/map/shape";

const square = [
  [0, 0],
  [4, 0],
  [4, 4],
  [0, 4],
];
const at = (index: number) => ({ polygon: 0, ring: 0, index });

test("a polygon opened and closed is the same polygon", () => {
  const polygon = { type: "Polygon" as const, coordinates: [[...square, [0, 0]]] };

  expect(areaFrom(shapeOf(polygon))).toEqual(polygon);
});

test("a polygon of several parts stays one", () => {
  const parts = {
    type: "MultiPolygon" as const,
    coordinates: [
      [[...square, [0, 0]]],
      [
        [
          [9, 9],
          [10, 9],
          [10, 10],
          [9, 9],
        ],
      ],
    ],
  };

  expect(areaFrom(shapeOf(parts))).toEqual(parts);
});

test("corners can be moved, added and taken away, but three remain", () => {
  const moved = moveCorner([[square]], at(1), [5, 0]);
  const added = addCorner(moved, at(2), [6, 2]);
  expect(added[0]?.[0]).toEqual([
    [0, 0],
    [5, 0],
    [6, 2],
    [4, 4],
    [0, 4],
  ]);
  let fewer = added;
  for (let count = 0; count < 9; count += 1) fewer = removeCorner(fewer, at(0));
  expect(fewer[0]?.[0]).toHaveLength(3);
});

test("an outline that crosses itself is found", () => {
  expect(crossesItself(square)).toBe(false);
  expect(
    crossesItself([
      [0, 0],
      [4, 4],
      [4, 0],
      [0, 4],
    ]),
  ).toBe(true);
  expect(
    crossesItself([
      [0, 0],
      [4, 0],
      [4, 4],
      [2, 0],
      [0, 4],
    ]),
  ).toBe(true);
});

test("a problem says what to do", () => {
  expect(problemOf([])).toMatch(/three corners/);
  expect(
    problemOf([
      [
        [
          [0, 0],
          [1, 1],
          [0, 0],
        ],
      ],
    ]),
  ).toMatch(/three different corners/);
  expect(
    problemOf([
      [
        [
          [0, 0],
          [1, 95],
          [2, 0],
        ],
      ],
    ]),
  ).toMatch(/Latitude/);
  expect(
    problemOf([
      [
        [
          [0, 0],
          [4, 4],
          [4, 0],
          [0, 4],
        ],
      ],
    ]),
  ).toMatch(/crosses itself/);
  expect(problemOf([[square]])).toBeNull();
});

test("corners written as text are read back", () => {
  const shape = withCornersText([[square]], "0, 0\n4 0\n\n4;4\n");

  expect(shape[0]?.[0]).toEqual([
    [0, 0],
    [4, 0],
    [4, 4],
  ]);
  expect(cornersText(shape)).toBe("0, 0\n4, 0\n4, 4");
  expect(problemOf(withCornersText([[square]], "0, x\n1, 1\n2, 0"))).toMatch(/two numbers/);
});
