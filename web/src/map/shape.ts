/** Changing the corners of polygons. Rings here are open: the first corner is not repeated. */
import type { Position } from "geojson";
import { type Area, polygonsOf } from "./zones";

export type Shape = Position[][][];

/** A corner: polygon, ring, place in the ring. */
export interface Corner {
  polygon: number;
  ring: number;
  index: number;
}

export function shapeOf(geometry: Area): Shape {
  return polygonsOf(geometry).map((rings) =>
    rings.map((ring) => {
      const [first, last] = [ring[0], ring.at(-1)];
      const closed = ring.length > 1 && first?.[0] === last?.[0] && first?.[1] === last?.[1];
      return closed ? ring.slice(0, -1) : ring;
    }),
  );
}

const DIGITS = 1e6;

function rounded([lon = 0, lat = 0]: Position): Position {
  return [Math.round(lon * DIGITS) / DIGITS, Math.round(lat * DIGITS) / DIGITS];
}

export function areaFrom(shape: Shape): Area {
  const closed = shape.map((rings) =>
    rings.map((ring) => {
      const corners = ring.map(rounded);
      return corners[0] ? [...corners, corners[0]] : corners;
    }),
  );
  const [only] = closed;
  return closed.length === 1 && only
    ? { type: "Polygon", coordinates: only }
    : { type: "MultiPolygon", coordinates: closed };
}

function withRing(shape: Shape, at: Corner, change: (ring: Position[]) => Position[]): Shape {
  return shape.map((rings, polygon) =>
    polygon !== at.polygon
      ? rings
      : rings.map((ring, index) => (index === at.ring ? change(ring) : ring)),
  );
}

export function moveCorner(shape: Shape, at: Corner, to: Position): Shape {
  return withRing(shape, at, (ring) =>
    ring.map((corner, index) => (index === at.index ? to : corner)),
  );
}

export function addCorner(shape: Shape, at: Corner, corner: Position): Shape {
  return withRing(shape, at, (ring) => ring.toSpliced(at.index, 0, corner));
}

/** Takes a corner away; a ring keeps at least three. */
export function removeCorner(shape: Shape, at: Corner): Shape {
  return withRing(shape, at, (ring) => (ring.length <= 3 ? ring : ring.toSpliced(at.index, 1)));
}

export function corners(shape: Shape): number {
  return shape.flat().reduce((sum, ring) => sum + ring.length, 0);
}

type Side = [Position, Position];

function turn(a: Position, b: Position, c: Position): number {
  const [ax = 0, ay = 0] = a;
  const [bx = 0, by = 0] = b;
  const [cx = 0, cy = 0] = c;
  return Math.sign((bx - ax) * (cy - ay) - (by - ay) * (cx - ax));
}

function between(a: Position, b: Position, c: Position): boolean {
  const inRange = (axis: 0 | 1) =>
    Math.min(a[axis] ?? 0, b[axis] ?? 0) <= (c[axis] ?? 0) &&
    (c[axis] ?? 0) <= Math.max(a[axis] ?? 0, b[axis] ?? 0);
  return inRange(0) && inRange(1);
}

function crosses([a, b]: Side, [c, d]: Side): boolean {
  const [d1, d2, d3, d4] = [turn(c, d, a), turn(c, d, b), turn(a, b, c), turn(a, b, d)];
  if (d1 !== d2 && d3 !== d4) return true;
  return (
    (d1 === 0 && between(c, d, a)) ||
    (d2 === 0 && between(c, d, b)) ||
    (d3 === 0 && between(a, b, c)) ||
    (d4 === 0 && between(a, b, d))
  );
}

export function crossesItself(ring: Position[]): boolean {
  const sides = ring.map(
    (corner, index): Side => [corner, ring[(index + 1) % ring.length] ?? corner],
  );
  for (let i = 0; i < sides.length; i += 1) {
    for (let j = i + 2; j < sides.length; j += 1) {
      // The last side meets the first one in their common corner.
      if (i === 0 && j === sides.length - 1) continue;
      const [one, other] = [sides[i], sides[j]];
      if (one && other && crosses(one, other)) return true;
    }
  }
  return false;
}

const CHECKED_UP_TO = 1_500;

/** What keeps a shape from being saved; the gateway checks again. */
export function problemOf(shape: Shape): string | null {
  if (shape.length === 0 || !shape[0]?.[0]?.length) return "Draw at least three corners on the map";
  for (const ring of shape.flat()) {
    const distinct = new Set(ring.map((corner) => corner.join()));
    if (distinct.size < 3) return "A zone needs at least three different corners";
    if (ring.some(([lon, lat]) => !Number.isFinite(lon) || !Number.isFinite(lat)))
      return "Every corner needs two numbers";
    if (ring.some(([, lat = 0]) => Math.abs(lat) > 90))
      return "Latitude goes from −90 to 90 degrees";
    if (ring.some(([lon = 0]) => Math.abs(lon) > 360))
      return "Longitude goes from −180 to 180 degrees";
    if (ring.length <= CHECKED_UP_TO && crossesItself(ring)) return "The outline crosses itself";
  }
  return null;
}

/** Corners of the outer ring of the first polygon, one "longitude, latitude" a line. */
export function cornersText(shape: Shape): string {
  return (shape[0]?.[0] ?? []).map((corner) => rounded(corner).join(", ")).join("\n");
}

export function withCornersText(shape: Shape, text: string): Shape {
  const ring = text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) =>
      line
        .split(/[\s,;]+/)
        .slice(0, 2)
        .map(Number),
    );
  const [, ...holes] = shape[0] ?? [];
  return [[ring, ...holes], ...shape.slice(1)];
}
