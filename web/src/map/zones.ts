import type { Feature, FeatureCollection, MultiPolygon, Polygon, Position } from "geojson";
import { numeric, text } from "../data/row";
import type { Row, Value, ZoneLayer } from "../wire";
import { type Bounds, boundsOf, type Point } from "./mercator";

export type Area = Polygon | MultiPolygon;

export interface Zone {
  key: string;
  label: string;
  kind: string;
  geometry: Area;
  /** Rings of each polygon, outer one first. */
  polygons: Position[][][];
  bounds: Bounds;
  /** Where its name is written. */
  middle: Point;
  row: Row;
}

/** How zones of one kind look; the dash tells kinds apart without colour. */
export interface KindStyle {
  kind: string;
  slot: number;
  dash: number[];
}

export const KIND_SLOTS = 6;
const DASHES: number[][] = [[], [6, 3], [2, 3], [10, 3, 2, 3], [], [6, 3]];

/** Column of a circle's radius in metres, where the geometry is a Point. */
export const RADIUS = "radius_m";
const CIRCLE_CORNERS = 72;
const METRES_PER_DEGREE = 111_195;

/** A circle as a polygon, as near as a map can show it. */
export function circle(lon: number, lat: number, radius: number): Polygon {
  const [high, wide] = [
    radius / METRES_PER_DEGREE,
    radius / (METRES_PER_DEGREE * Math.max(0.01, Math.cos((lat * Math.PI) / 180))),
  ];
  const ring = [...Array(CIRCLE_CORNERS + 1).keys()].map((corner): Position => {
    const angle = ((corner % CIRCLE_CORNERS) / CIRCLE_CORNERS) * 2 * Math.PI;
    return [lon + wide * Math.cos(angle), lat + high * Math.sin(angle)];
  });
  return { type: "Polygon", coordinates: [ring] };
}

function parse(value: Value | undefined): unknown {
  if (typeof value !== "string") return value;
  try {
    return JSON.parse(value);
  } catch {
    return null;
  }
}

/** The middle of a zone that is a circle. */
export function centerOf(value: Value | undefined): Position | null {
  const point = parse(value) as { type?: string; coordinates?: Position } | null;
  return point?.type === "Point" && Array.isArray(point.coordinates) ? point.coordinates : null;
}

export function areaOf(value: Value | undefined, radius: number | null = null): Area | null {
  const center = centerOf(value);
  if (center) {
    const [lon = 0, lat = 0] = center;
    return radius === null ? null : circle(lon, lat, radius);
  }
  const area = parse(value) as Partial<Area> | null;
  const known = area?.type === "Polygon" || area?.type === "MultiPolygon";
  return known && Array.isArray(area.coordinates) ? (area as Area) : null;
}

function signedArea(ring: Position[]): number {
  let sum = 0;
  for (let index = 0; index < ring.length - 1; index += 1) {
    const [x1 = 0, y1 = 0] = ring[index] ?? [];
    const [x2 = 0, y2 = 0] = ring[index + 1] ?? [];
    sum += x1 * y2 - x2 * y1;
  }
  return sum / 2;
}

function centroid(ring: Position[]): Point {
  const area = signedArea(ring);
  const [x0 = 0, y0 = 0] = ring[0] ?? [];
  if (Math.abs(area) < 1e-12) return [x0, y0];
  let [x, y] = [0, 0];
  for (let index = 0; index < ring.length - 1; index += 1) {
    const [x1 = 0, y1 = 0] = ring[index] ?? [];
    const [x2 = 0, y2 = 0] = ring[index + 1] ?? [];
    const cross = x1 * y2 - x2 * y1;
    x += (x1 + x2) * cross;
    y += (y1 + y2) * cross;
  }
  return [x / (6 * area), y / (6 * area)];
}

export function polygonsOf(geometry: Area): Position[][][] {
  return geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
}

export function zoneOf(row: Row, layer: ZoneLayer): Zone | null {
  const geometry = areaOf(row[layer.geometry], numeric(row, RADIUS));
  if (!geometry) return null;
  const polygons = polygonsOf(geometry);
  const outers = polygons.map((rings) => rings[0] ?? []);
  const bounds = boundsOf(outers.flat().map(([lon = 0, lat = 0]) => [lon, lat] as Point));
  if (!bounds) return null;
  const largest = outers.reduce((a, b) =>
    Math.abs(signedArea(b)) > Math.abs(signedArea(a)) ? b : a,
  );
  const key = text(row, layer.key);
  return {
    key,
    label: text(row, layer.label) || key,
    kind: text(row, layer.kind) || "zone",
    geometry,
    polygons,
    bounds,
    middle: centroid(largest),
    row,
  };
}

function inRing(ring: Position[], lon: number, lat: number): boolean {
  let inside = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i, i += 1) {
    const [x1 = 0, y1 = 0] = ring[i] ?? [];
    const [x2 = 0, y2 = 0] = ring[j] ?? [];
    if (y1 > lat !== y2 > lat && lon < ((x2 - x1) * (lat - y1)) / (y2 - y1) + x1) inside = !inside;
  }
  return inside;
}

/** Whether a point of the map is in the zone; for pointing, not for judging. */
export function contains(zone: Zone, lon: number, lat: number): boolean {
  const { west, east, south, north } = zone.bounds;
  if (lat < south || lat > north) return false;
  if (lon < west || lon > east) {
    if (lon + 360 < west || lon + 360 > east) return false;
  }
  return zone.polygons.some((rings) => {
    const [outer = [], ...holes] = rings;
    return inRing(outer, lon, lat) && !holes.some((hole) => inRing(hole, lon, lat));
  });
}

export function size(zone: Zone): number {
  return (zone.bounds.east - zone.bounds.west) * (zone.bounds.north - zone.bounds.south);
}

/** Kinds in the order of their names; kinds beyond the palette share its last place. */
export function kindStyles(zones: Iterable<Zone>): Map<string, KindStyle> {
  const kinds = [...new Set([...zones].map((zone) => zone.kind))].sort();
  return new Map(
    kinds.map((kind, index) => {
      const slot = Math.min(index, KIND_SLOTS - 1);
      return [kind, { kind, slot, dash: DASHES[slot] ?? [] }];
    }),
  );
}

export interface ZoneProperties {
  key: string;
  slot: number;
}

export function collection(
  zones: Iterable<Zone>,
  styles: Map<string, KindStyle>,
): FeatureCollection<Area, ZoneProperties> {
  const features: Feature<Area, ZoneProperties>[] = [];
  for (const zone of zones) {
    const slot = styles.get(zone.kind)?.slot ?? 0;
    features.push({
      type: "Feature",
      properties: { key: zone.key, slot },
      geometry: zone.geometry,
    });
  }
  return { type: "FeatureCollection", features };
}

/** Zone keys with somebody inside, and how many: from a column, or a row for each one inside. */
export function occupied(
  rows: Iterable<Row>,
  key: string,
  count: string | null,
): Map<string, number> {
  const out = new Map<string, number>();
  for (const row of rows) {
    const zone = text(row, key);
    const inside = count === null ? (out.get(zone) ?? 0) + 1 : (numeric(row, count) ?? 0);
    if (inside > 0) out.set(zone, inside);
  }
  return out;
}

/** The same by where things are, for apps that do not tell. */
export function occupiedByPlace(
  zones: Iterable<Zone>,
  places: Iterable<{ lon: number; lat: number }>,
): Map<string, number> {
  const points = [...places];
  const out = new Map<string, number>();
  for (const zone of zones) {
    const inside = points.filter(({ lon, lat }) => contains(zone, lon, lat)).length;
    if (inside > 0) out.set(zone.key, inside);
  }
  return out;
}
