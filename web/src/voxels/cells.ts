import { numeric } from "../data/row";
import type { Row } from "../wire";

export type Axis = 0 | 1 | 2;
export const AXES: readonly Axis[] = [0, 1, 2];

export interface Shape {
  x: string;
  y: string;
  z: string;
  value: string;
}

/** Voxels as columns: where each is, and its value. */
export interface Cells {
  /** Indices along x, y and z. */
  at: [Int32Array, Int32Array, Int32Array];
  values: Float64Array;
  /** Least and greatest index of each axis. */
  low: [number, number, number];
  high: [number, number, number];
  /** Least and greatest value; both null where there is none. */
  least: number | null;
  most: number | null;
}

/** Rows without a place or a value are left out: there is nothing to draw. */
export function cellsOf(rows: Iterable<Row>, shape: Shape): Cells {
  const at: [number[], number[], number[]] = [[], [], []];
  const values: number[] = [];
  for (const row of rows) {
    const place = [numeric(row, shape.x), numeric(row, shape.y), numeric(row, shape.z)];
    const value = numeric(row, shape.value);
    if (value === null || place.some((index) => index === null)) continue;
    for (const axis of AXES) at[axis].push(place[axis] ?? 0);
    values.push(value);
  }
  const bound = (numbers: readonly number[], pick: (a: number, b: number) => number) =>
    numbers.reduce((one, other) => pick(one, other), numbers[0] ?? 0);
  const each = (pick: (a: number, b: number) => number): [number, number, number] => [
    bound(at[0], pick),
    bound(at[1], pick),
    bound(at[2], pick),
  ];
  return {
    at: [Int32Array.from(at[0]), Int32Array.from(at[1]), Int32Array.from(at[2])],
    values: Float64Array.from(values),
    low: each(Math.min),
    high: each(Math.max),
    least: values.length ? bound(values, Math.min) : null,
    most: values.length ? bound(values, Math.max) : null,
  };
}

/** The numbers of the voxels that lie in a plane. */
export function inSlice(cells: Cells, axis: Axis, index: number): number[] {
  const out: number[] = [];
  cells.at[axis].forEach((at, number) => {
    if (at === index) out.push(number);
  });
  return out;
}

/** How far between least and most a value lies, 0 to 1. */
export function share({ least, most }: Cells, value: number): number {
  if (least === null || most === null || most <= least) return 0.5;
  return (value - least) / (most - least);
}

export interface View {
  /** Radians around the vertical axis, and above the horizon. */
  yaw: number;
  pitch: number;
}

export interface Projected {
  /** Screen places in units of one voxel, x to the right and y down; farthest first. */
  x: Float64Array;
  y: Float64Array;
  order: Uint32Array;
}

/** Voxels as seen from afar without perspective, about the middle of what is there. */
export function project(cells: Cells, { yaw, pitch }: View): Projected {
  const count = cells.values.length;
  const [sinYaw, cosYaw] = [Math.sin(yaw), Math.cos(yaw)];
  const [sinPitch, cosPitch] = [Math.sin(pitch), Math.cos(pitch)];
  const middle = AXES.map((axis) => (cells.low[axis] + cells.high[axis]) / 2);
  const [x, y, depth] = [new Float64Array(count), new Float64Array(count), new Float64Array(count)];
  for (let number = 0; number < count; number += 1) {
    const [px, py, pz] = AXES.map(
      (axis) => (cells.at[axis][number] ?? 0) - (middle[axis] ?? 0),
    ) as [number, number, number];
    const ahead = px * sinYaw + py * cosYaw;
    x[number] = px * cosYaw - py * sinYaw;
    y[number] = -(pz * cosPitch + ahead * sinPitch);
    depth[number] = ahead * cosPitch - pz * sinPitch;
  }
  const order = Uint32Array.from({ length: count }, (_, number) => number);
  order.sort((a, b) => (depth[b] ?? 0) - (depth[a] ?? 0));
  return { x, y, order };
}
