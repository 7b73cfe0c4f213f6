import { color } from "../theme";
import { type Fleet, placeAt, type Vehicle } from "./fleet";
import { drawGraticule } from "./graticule";
import { type Camera, near, screenX, screenY, toX, toY } from "./mercator";
import type { Coloring } from "./palette";
import type { Zone } from "./zones";

const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
/** A vehicle that has been silent for this long is drawn hollow. */
export const SILENT_MS = 120_000;
/** Fewer vehicles than this glide at every frame; more move with each visual update. */
export const GLIDE_UP_TO = 300;
const LABELS_UP_TO = 80;
const FADE_BANDS = 4;

export interface Scene {
  camera: Camera;
  fleet: Fleet;
  zones: Map<string, Zone>;
  counts: ReadonlyMap<string, number>;
  slots: ReadonlyMap<string, number>;
  coloring: Coloring;
  label: (vehicle: Vehicle) => string;
  selected: string | null;
  hovered: string | null;
  /** Event-time ms. */
  eventNow: number;
  trail: number;
}

export function cleared(
  canvas: HTMLCanvasElement,
  camera: Camera,
): CanvasRenderingContext2D | null {
  const context = canvas.getContext("2d");
  if (!context) return null;
  const [width, height] = [
    Math.round(camera.width * devicePixelRatio),
    Math.round(camera.height * devicePixelRatio),
  ];
  if (canvas.width !== width || canvas.height !== height)
    [canvas.width, canvas.height] = [width, height];
  context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  context.clearRect(0, 0, camera.width, camera.height);
  context.font = FONT;
  return context;
}

/** Lines of longitude and latitude, and the tracks: what changes slowly. */
export class Ground {
  readonly canvas = document.createElement("canvas");
  #drawnFor: Camera | null = null;

  draw(scene: Scene): void {
    const { camera, fleet, coloring, eventNow, trail } = scene;
    const context = cleared(this.canvas, camera);
    if (!context) return;
    this.canvas.style.transform = "";
    this.#drawnFor = camera;
    drawGraticule(context, camera, {
      line: color("graticule"),
      text: color("map-text"),
      halo: color("sea", 0.8),
    });
    if (!trail) return;
    context.lineWidth = 1.3;
    context.lineJoin = "round";
    const paths = new Map<string, Path2D>();
    const path = (tint: number, band: number) => {
      const id = `${tint}/${band}`;
      const held = paths.get(id) ?? new Path2D();
      paths.set(id, held);
      return held;
    };
    for (const vehicle of fleet.vehicles.values()) {
      const tint = coloring.of(vehicle.color);
      this.#track(vehicle, camera, (band) => path(tint, band), eventNow, trail);
    }
    for (const [id, line] of paths) {
      const [tint = 0, band = 0] = id.split("/").map(Number);
      context.strokeStyle = coloring.canvas[tint] ?? coloring.canvas[0] ?? "";
      context.globalAlpha = 0.55 * ((FADE_BANDS - band) / FADE_BANDS) ** 1.4;
      context.stroke(line);
    }
    context.globalAlpha = 1;
  }

  #track(
    vehicle: Vehicle,
    camera: Camera,
    path: (band: number) => Path2D,
    eventNow: number,
    trail: number,
  ): void {
    const { track } = vehicle;
    const base = near(vehicle.toX, camera.x) - vehicle.toX;
    const at = (x: number) => camera.width / 2 + (x + base - camera.x) * camera.world;
    const last = track.at(-1);
    if (!last) return;
    const [endX, endY] = [at(vehicle.toX), screenY(camera, vehicle.toY)];
    const reach = 400;
    if (
      endX < -reach ||
      endY < -reach ||
      endX > camera.width + reach ||
      endY > camera.height + reach
    )
      return;
    let line: Path2D | null = null;
    let drawn = -1;
    track.forEach((point, index) => {
      const age = Math.max(0, eventNow - point.time) / (trail * 1_000);
      const band = Math.min(FADE_BANDS - 1, Math.floor(age * FADE_BANDS));
      const [x, y] = [at(point.x), screenY(camera, point.y)];
      if (band !== drawn) {
        line?.lineTo(x, y);
        line = path(band);
        line.moveTo(x, y);
        drawn = band;
      } else if (index > 0) line?.lineTo(x, y);
    });
    (line as Path2D | null)?.lineTo(endX, endY);
  }

  /** Moves what is drawn along with the camera until there is time to draw it anew. */
  follow(camera: Camera): void {
    const drawn = this.#drawnFor;
    if (!drawn) return;
    const scale = camera.world / drawn.world;
    const x =
      (near(drawn.x, camera.x) - camera.x) * camera.world +
      camera.width / 2 -
      (drawn.width / 2) * scale;
    const y = (drawn.y - camera.y) * camera.world + camera.height / 2 - (drawn.height / 2) * scale;
    this.canvas.style.transformOrigin = "0 0";
    this.canvas.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  }
}

/** Vehicles and names: what moves. */
export class Actors {
  readonly canvas = document.createElement("canvas");
  /** Screen places of the last drawing, for pointing at vehicles. */
  readonly #places = new Map<string, [number, number]>();

  draw(scene: Scene): void {
    const context = cleared(this.canvas, scene.camera);
    if (!context) return;
    const now = performance.now();
    this.#places.clear();
    const taken: [number, number, number, number][] = [];
    this.#drawVehicles(context, scene, now);
    this.#drawZoneNames(context, scene, taken);
    this.#drawVehicleNames(context, scene, taken);
  }

  #drawVehicles(context: CanvasRenderingContext2D, scene: Scene, now: number): void {
    const { camera, fleet, coloring, eventNow, selected, hovered } = scene;
    const bodies = coloring.canvas.map(() => new Path2D());
    const silent = new Path2D();
    const crowded = fleet.vehicles.size > GLIDE_UP_TO;
    const size = crowded ? 5.5 : 7;
    const edge = 20;
    for (const vehicle of fleet.vehicles.values()) {
      const [ux, uy] = placeAt(vehicle, now);
      const [x, y] = [screenX(camera, ux), screenY(camera, uy)];
      if (x < -edge || y < -edge || x > camera.width + edge || y > camera.height + edge) continue;
      this.#places.set(vehicle.key, [x, y]);
      const body =
        eventNow - vehicle.time > SILENT_MS ? silent : bodies[coloring.of(vehicle.color)];
      if (!body) continue;
      if (vehicle.heading === null) {
        body.moveTo(x + size * 0.7, y);
        body.arc(x, y, size * 0.7, 0, 2 * Math.PI);
        continue;
      }
      const angle = (vehicle.heading * Math.PI) / 180;
      const [sin, cos] = [Math.sin(angle), Math.cos(angle)];
      const corner = (right: number, ahead: number): [number, number] => [
        x + (right * cos + ahead * sin) * size,
        y + (right * sin - ahead * cos) * size,
      ];
      body.moveTo(...corner(0, 1.15));
      body.lineTo(...corner(0.72, -0.85));
      body.lineTo(...corner(0, -0.4));
      body.lineTo(...corner(-0.72, -0.85));
      body.closePath();
    }
    context.setLineDash([]);
    context.lineJoin = "round";
    context.strokeStyle = color("vehicle-edge");
    context.lineWidth = crowded ? 1 : 1.5;
    bodies.forEach((body, index) => {
      context.stroke(body);
      context.fillStyle = coloring.canvas[index] ?? "";
      context.fill(body);
    });
    context.strokeStyle = color("map-text");
    context.lineWidth = 1;
    context.stroke(silent);
    for (const key of [hovered, selected]) {
      const place = key === null ? undefined : this.#places.get(key);
      if (!place) continue;
      context.strokeStyle = color("text");
      context.lineWidth = key === selected ? 2 : 1;
      context.beginPath();
      context.arc(place[0], place[1], 12, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  #write(
    context: CanvasRenderingContext2D,
    text: string,
    x: number,
    y: number,
    taken: [number, number, number, number][],
    always: boolean,
  ): void {
    const width = context.measureText(text).width;
    const left = context.textAlign === "center" ? x - width / 2 : x;
    const box: [number, number, number, number] = [left - 2, y - 7, left + width + 2, y + 7];
    const hit = taken.some(([l, t, r, b]) => box[0] < r && box[2] > l && box[1] < b && box[3] > t);
    if (hit && !always) return;
    taken.push(box);
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  }

  #drawVehicleNames(
    context: CanvasRenderingContext2D,
    scene: Scene,
    taken: [number, number, number, number][],
  ): void {
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = color("sea", 0.85);
    context.fillStyle = color("text");
    const all = this.#places.size <= LABELS_UP_TO;
    for (const [x, y] of this.#places.values()) taken.push([x - 7, y - 7, x + 7, y + 7]);
    for (const [key, [x, y]] of this.#places) {
      const chosen = key === scene.selected || key === scene.hovered;
      const vehicle = scene.fleet.vehicles.get(key);
      if (!vehicle || (!all && !chosen)) continue;
      this.#write(context, scene.label(vehicle), x + 11, y, taken, chosen);
    }
  }

  #drawZoneNames(
    context: CanvasRenderingContext2D,
    { camera, zones, counts }: Scene,
    taken: [number, number, number, number][],
  ): void {
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = color("sea", 0.85);
    for (const zone of zones.values()) {
      const { west, east } = zone.bounds;
      const wide = (toX(east) - toX(west)) * camera.world;
      const inside = counts.get(zone.key) ?? 0;
      if (wide < 36 && inside === 0) continue;
      const [x, y] = [screenX(camera, toX(zone.middle[0])), screenY(camera, toY(zone.middle[1]))];
      if (x < 0 || y < 0 || x > camera.width || y > camera.height) continue;
      context.fillStyle = color(inside ? "text" : "map-text");
      this.#write(context, inside ? `${zone.label} · ${inside}` : zone.label, x, y, taken, false);
    }
  }

  /** The vehicle nearest to a point of the screen, within reach of a finger. */
  at(px: number, py: number, reach: number): string | null {
    let best: string | null = null;
    let least = reach;
    for (const [key, [x, y]] of this.#places) {
      const distance = Math.hypot(x - px, y - py);
      if (distance < least) [best, least] = [key, distance];
    }
    return best;
  }
}
