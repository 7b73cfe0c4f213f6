/** Web Mercator on the unit square: x grows east from 180° W, y grows south from 85.05° N. */
export type Point = readonly [number, number];

const LIMIT = 85.05112878;

export function toX(lon: number): number {
  return (lon + 180) / 360;
}

export function toY(lat: number): number {
  const held = Math.max(-LIMIT, Math.min(LIMIT, lat));
  const sin = Math.sin((held * Math.PI) / 180);
  return 0.5 - Math.log((1 + sin) / (1 - sin)) / (4 * Math.PI);
}

export function toLon(x: number): number {
  return ((((x % 1) + 1) % 1) - 0.5) * 360;
}

export function toLat(y: number): number {
  return (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI;
}

/** What part of the world is on the screen. North is always up. */
export interface Camera {
  /** Unit coordinates of the middle of the screen. */
  x: number;
  y: number;
  /** Pixels that the whole world would be wide. */
  world: number;
  width: number;
  height: number;
}

/** Unit x in the copy of the world that is nearest to the middle of the screen. */
export function near(x: number, middle: number): number {
  return x - Math.round(x - middle);
}

export function screenX(camera: Camera, x: number): number {
  return camera.width / 2 + (near(x, camera.x) - camera.x) * camera.world;
}

export function screenY(camera: Camera, y: number): number {
  return camera.height / 2 + (y - camera.y) * camera.world;
}

export function fromScreen(camera: Camera, px: number, py: number): Point {
  const x = camera.x + (px - camera.width / 2) / camera.world;
  const y = camera.y + (py - camera.height / 2) / camera.world;
  return [toLon(x), toLat(y)];
}

export interface Bounds {
  west: number;
  south: number;
  east: number;
  north: number;
}

/** The smallest box around the points; it may cross the antimeridian (east beyond 180). */
export function boundsOf(points: Iterable<Point>): Bounds | null {
  const lons: number[] = [];
  let [south, north] = [90, -90];
  for (const [lon, lat] of points) {
    if (!Number.isFinite(lon) || !Number.isFinite(lat)) continue;
    lons.push((((lon % 360) + 540) % 360) - 180);
    south = Math.min(south, lat);
    north = Math.max(north, lat);
  }
  if (lons.length === 0) return null;
  lons.sort((a, b) => a - b);
  // The widest empty stretch of the circle is what the box leaves out.
  let [west, widest] = [lons[0] ?? 0, (lons[0] ?? 0) + 360 - (lons.at(-1) ?? 0)];
  for (let index = 1; index < lons.length; index += 1) {
    const gap = (lons[index] ?? 0) - (lons[index - 1] ?? 0);
    if (gap > widest) [west, widest] = [lons[index] ?? 0, gap];
  }
  return { west, south, east: west + 360 - widest, north };
}

const MARGIN_PX = 48;
const MAX_WORLD = 512 * 2 ** 18;

/** Pixels at two sides of the screen that something else covers. */
export interface Covered {
  right: number;
  bottom: number;
}

/** Nothing is shown closer than this many degrees across. */
const CLOSEST = 0.05;

/** The camera that shows the box with a margin in the part of the screen that is free. */
export function cameraFor(box: Bounds, width: number, height: number, covered: Covered): Camera {
  const [left, right] = [toX(box.west), toX(box.east)];
  const [top, bottom] = [toY(box.north), toY(box.south)];
  const least = CLOSEST / 360;
  const [free, tall] = [width - covered.right, height - covered.bottom];
  const wanted = Math.min(
    (free - 2 * MARGIN_PX) / Math.max(right - left, least),
    (tall - 2 * MARGIN_PX) / Math.max(bottom - top, least),
    MAX_WORLD,
  );
  const world = Math.max(wanted, leastWorld(width, height));
  return {
    x: (left + right) / 2 + covered.right / 2 / world,
    y: (top + bottom) / 2 + covered.bottom / 2 / world,
    world,
    width,
    height,
  };
}

/** The world always fills the screen, so that nothing is shown twice. */
export function leastWorld(width: number, height: number): number {
  return Math.max(width, height, 256);
}

/** Metres that a pixel is wide in the middle of the screen. */
export function metresPerPixel(camera: Camera): number {
  const equator = 40_075_016.686;
  return (equator * Math.cos((toLat(camera.y) * Math.PI) / 180)) / camera.world;
}
