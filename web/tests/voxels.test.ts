import { expect, test } from "vitest";
import { cellsOf, inSlice, project, share } from "../src/voxels/cells";
import { scaleColor } from "../src/voxels/scale";

const shape = { x: "ix", y: "iy", z: "iz", value: "mean" };
const voxel = (ix: number, iy: number, iz: number, mean: number | null) => ({ ix, iy, iz, mean });

test("voxels without a value are left out", () => {
  const cells = cellsOf([voxel(1, 2, 3, 5), voxel(4, 5, 6, null), voxel(-1, 7, 3, 9)], shape);

  expect([...cells.values]).toEqual([5, 9]);
  expect([cells.low, cells.high]).toEqual([
    [-1, 2, 3],
    [1, 7, 3],
  ]);
  expect([cells.least, cells.most]).toEqual([5, 9]);
});

test("of nothing there is nothing", () => {
  const cells = cellsOf([], shape);

  expect([cells.least, cells.most, cells.values.length]).toEqual([null, null, 0]);
});

test("a slice has the voxels of one plane", () => {
  const cells = cellsOf([voxel(0, 0, 1, 1), voxel(0, 1, 2, 2), voxel(1, 1, 1, 3)], shape);

  expect(inSlice(cells, 2, 1)).toEqual([0, 2]);
  expect(inSlice(cells, 1, 1)).toEqual([1, 2]);
});

test("seen level from the front, what is behind is drawn first and up is up", () => {
  const cells = cellsOf([voxel(0, 0, 0, 1), voxel(0, 2, 0, 2), voxel(2, 0, 2, 3)], shape);
  const { x, y, order } = project(cells, { yaw: 0, pitch: 0 });

  expect([...x]).toEqual([-1, -1, 1]);
  expect(y[2]).toBeLessThan(y[0] ?? 0);
  expect(order[0]).toBe(1);
});

test("values lie between the ends of the scale", () => {
  const cells = cellsOf([voxel(0, 0, 0, 10), voxel(0, 0, 1, 30)], shape);

  expect(share(cells, 20)).toBe(0.5);
  expect(share(cellsOf([voxel(0, 0, 0, 10)], shape), 10)).toBe(0.5);
  expect(scaleColor(0)).toBe("rgb(68 1 84)");
  expect(scaleColor(2)).toBe(scaleColor(1));
});
