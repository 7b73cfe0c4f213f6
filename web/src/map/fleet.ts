import { numeric, text } from "../data/row";
import type { MapView, Row } from "../wire";
import { near, toX, toY } from "./mercator";

/** A place on a vehicle's track. */
export interface TrackPoint {
  /** Event-time ms. */
  time: number;
  x: number;
  y: number;
  depth: number | null;
}

export interface Vehicle {
  key: string;
  row: Row;
  /** Event-time ms of the newest position. */
  time: number;
  lon: number;
  lat: number;
  /** Degrees clockwise from north; null when not known. */
  heading: number | null;
  color: string | number | null;
  track: TrackPoint[];
  // The glide from where it was drawn to where it is, in unit coordinates and wall-clock ms.
  fromX: number;
  fromY: number;
  toX: number;
  toY: number;
  began: number;
  lasts: number;
  updated: number;
}

const GLIDE_MS = { least: 200, most: 2_500 };
/** A jump longer than this part of the world is a new place, not a movement. */
const JUMP = 0.005;
/** How many track points all vehicles together may have. */
const TRACK_POINTS = 40_000;
const TRACK_PER_VEHICLE = 120;
const DEPTH_POINTS = 240;

/** Where a vehicle is drawn at a moment: between its last two positions, never beyond. */
export function placeAt(vehicle: Vehicle, now: number): [number, number] {
  const part = Math.min(1, Math.max(0, (now - vehicle.began) / vehicle.lasts));
  return [
    vehicle.fromX + (vehicle.toX - vehicle.fromX) * part,
    vehicle.fromY + (vehicle.toY - vehicle.fromY) * part,
  ];
}

function bearing(vehicle: Vehicle, x: number, y: number): number | null {
  const [dx, dy] = [x - vehicle.toX, y - vehicle.toY];
  if (Math.hypot(dx, dy) < 1e-9) return vehicle.heading;
  return (Math.atan2(dx, -dy) * 180) / Math.PI;
}

export class Fleet {
  readonly vehicles = new Map<string, Vehicle>();
  readonly #view: MapView;
  readonly #depths = new Map<string, { time: number; depth: number }[]>();

  constructor(view: MapView) {
    this.#view = view;
  }

  /** Forgets everything, e.g. before a new snapshot; tracks of those that stay are kept. */
  keepOnly(keys: ReadonlySet<string>): void {
    for (const key of this.vehicles.keys()) if (!keys.has(key)) this.remove(key);
  }

  remove(key: string): void {
    this.vehicles.delete(key);
    this.#depths.delete(key);
  }

  upsert(key: string, row: Row, now: number, glide: boolean): void {
    const view = this.#view;
    const [lon, lat] = [numeric(row, view.lon), numeric(row, view.lat)];
    const time = Date.parse(text(row, view.time));
    if (lon === null || lat === null || Number.isNaN(time)) return;
    const before = this.vehicles.get(key);
    const y = toY(lat);
    const x = before ? near(toX(lon), before.toX) : toX(lon);
    const colored = view.color === null ? null : row[view.color];
    const color = typeof colored === "number" || typeof colored === "string" ? colored : null;
    const declared = numeric(row, view.heading);
    if (!before) {
      const vehicle: Vehicle = {
        key,
        row,
        time,
        lon,
        lat,
        color,
        heading: declared,
        track: [],
        fromX: x,
        fromY: y,
        toX: x,
        toY: y,
        began: now,
        lasts: 1,
        updated: now,
      };
      this.vehicles.set(key, vehicle);
      this.#extend(vehicle);
      return;
    }
    const far = Math.hypot(x - before.toX, y - before.toY) > JUMP;
    const [fromX, fromY] = glide && !far ? placeAt(before, now) : [x, y];
    before.heading = declared ?? bearing(before, x, y);
    Object.assign(before, { row, time, lon, lat, color, fromX, fromY, toX: x, toY: y, began: now });
    before.lasts = Math.min(GLIDE_MS.most, Math.max(GLIDE_MS.least, now - before.updated));
    before.updated = now;
    if (far) before.track = [];
    this.#extend(before);
  }

  #extend(vehicle: Vehicle): void {
    const depth = numeric(vehicle.row, this.#view.depth);
    if (depth !== null) {
      const depths = this.#depths.get(vehicle.key) ?? [];
      if (depths.at(-1)?.time !== vehicle.time) depths.push({ time: vehicle.time, depth });
      if (depths.length > DEPTH_POINTS) depths.shift();
      this.#depths.set(vehicle.key, depths);
    }
    const seconds = this.#view.trail;
    if (!seconds) return;
    const { track, time } = vehicle;
    const room = Math.min(TRACK_PER_VEHICLE, TRACK_POINTS / Math.max(1, this.vehicles.size));
    const every = (seconds * 1_000) / Math.max(8, room);
    const last = track.at(-1);
    if (last && time - last.time < every) return;
    track.push({ time, x: vehicle.toX, y: vehicle.toY, depth });
    const oldest = time - seconds * 1_000;
    let gone = 0;
    while ((track[gone]?.time ?? time) < oldest) gone += 1;
    if (gone) track.splice(0, gone);
  }

  depths(key: string): readonly { time: number; depth: number }[] {
    return this.#depths.get(key) ?? [];
  }
}
