import type { MapView, Row } from "../wire";
import { CanvasSurface } from "./canvasSurface";
import { Fleet, type Vehicle } from "./fleet";
import {
  type Bounds,
  boundsOf,
  type Camera,
  type Covered,
  fromScreen,
  type Point,
} from "./mercator";
import { Actors, GLIDE_UP_TO, Ground, type Scene } from "./overlay";
import { type Coloring, coloring } from "./palette";
import { Pulses } from "./pulses";
import type { Surface } from "./surface";
import { contains, type KindStyle, size, type Zone } from "./zones";

/** Without the glide, at most this often. */
const STEP_MS = 200;
const GROUND_EVERY_MS = 1_000;
const CAMERA_IDLE_MS = 120;
/** Shorter waits than two frames are left to the browser's own pace. */
const FRAMES_MS = 34;
const PANEL_PX = 328;
const NARROW = "(max-width: 820px)";
/** A vehicle moves at most this far between two drawings of its glide. */
const SMOOTH_PX = 0.5;

export interface EngineEvents {
  camera: () => void;
  /** The map goes on without WebGL, and why. */
  plain: (reason: string) => void;
}

function webgl(): boolean {
  try {
    return document.createElement("canvas").getContext("webgl2") !== null;
  } catch {
    return false;
  }
}

/** Draws one map: a surface below, tracks and vehicles above, each only when it must. */
export class MapEngine {
  readonly fleet: Fleet;
  zones = new Map<string, Zone>();
  styles = new Map<string, KindStyle>();
  counts: ReadonlyMap<string, number> = new Map();
  coloring: Coloring;
  selectedVehicle: string | null = null;
  hovered: string | null = null;
  eventNow = Date.now();
  /** Draw times in ms, newest last: for measuring on a real page. */
  readonly drawTimes: number[] = [];

  readonly #view: MapView;
  readonly #events: EngineEvents;
  readonly #container: HTMLElement;
  readonly #label: (vehicle: Vehicle) => string;
  readonly #ground = new Ground();
  readonly #actors = new Actors();
  readonly #pulses = new Pulses();
  #surface: Surface | null = null;
  #fitted: Bounds | null = null;
  #frame = 0;
  #actorsAt = 0;
  #groundAt = 0;
  #groundDirty = true;
  #idle: ReturnType<typeof setTimeout> | undefined;
  #destroyed = false;
  #selectedZone: string | null = null;

  constructor(
    container: HTMLElement,
    view: MapView,
    label: (vehicle: Vehicle) => string,
    events: EngineEvents,
  ) {
    this.#container = container;
    this.#view = view;
    this.#label = label;
    this.#events = events;
    this.fleet = new Fleet(view);
    this.coloring = coloring(this.fleet, view.color);
    for (const { canvas } of [this.#ground, this.#pulses, this.#actors]) {
      canvas.style.cssText = "position:absolute;inset:0;width:100%;height:100%;pointer-events:none";
      canvas.setAttribute("aria-hidden", "true");
    }
    void this.#start();
  }

  async #start(): Promise<void> {
    const below = document.createElement("div");
    below.style.cssText = "position:absolute;inset:0";
    this.#container.append(below, this.#ground.canvas, this.#pulses.canvas, this.#actors.canvas);
    const options = {
      container: below,
      onCamera: () => this.#cameraMoved(),
      onFailure: (reason: string) => this.#goPlain(below, reason),
    };
    if (!webgl()) {
      this.#goPlain(below, "this browser has no WebGL");
      return;
    }
    try {
      const { GlSurface } = await import("./glSurface");
      if (!this.#destroyed) this.#use(new GlSurface(options));
    } catch (error) {
      this.#goPlain(below, error instanceof Error ? error.message : String(error));
    }
  }

  #goPlain(below: HTMLElement, reason: string): void {
    if (this.#destroyed || this.#surface instanceof CanvasSurface) return;
    this.#surface?.destroy();
    this.#surface = null;
    below.replaceChildren();
    this.#events.plain(reason);
    this.#use(
      new CanvasSurface({
        container: below,
        onCamera: () => this.#cameraMoved(),
        // Only the coastline can fail here; vehicles and zones still show.
        onFailure: (problem) => this.#events.plain(problem),
      }),
    );
  }

  #use(surface: Surface): void {
    this.#surface = surface;
    surface.setZones(this.zones, this.styles);
    surface.setOccupied(new Set(this.counts.keys()));
    surface.setSelected(this.#selectedZone);
    if (this.#fitted) surface.fit(this.#fitted, this.#covered(), false);
    this.#cameraMoved();
  }

  get camera(): Camera | null {
    return this.#surface?.camera() ?? null;
  }

  get placed(): boolean {
    return this.#fitted !== null;
  }

  #scene(camera: Camera): Scene {
    return {
      camera,
      fleet: this.fleet,
      zones: this.zones,
      counts: this.counts,
      slots: new Map([...this.styles].map(([kind, style]) => [kind, style.slot])),
      coloring: this.coloring,
      label: this.#label,
      selected: this.selectedVehicle,
      hovered: this.hovered,
      eventNow: this.eventNow,
      trail: this.#view.trail ?? 0,
    };
  }

  #cameraMoved(): void {
    const { camera } = this;
    if (!camera) return;
    this.#ground.follow(camera);
    this.#drawActors(camera);
    if (this.#pulses.nextIn(performance.now()) !== null) this.#pulses.draw(this.#scene(camera));
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.#drawGround(), CAMERA_IDLE_MS);
    this.#events.camera();
  }

  #drawActors(camera: Camera): void {
    const began = performance.now();
    this.#actors.draw(this.#scene(camera));
    this.#actorsAt = performance.now();
    this.drawTimes.push(this.#actorsAt - began);
    if (this.drawTimes.length > 600) this.drawTimes.shift();
  }

  #drawGround(): void {
    const { camera } = this;
    if (!camera || this.#destroyed) return;
    this.#ground.draw(this.#scene(camera));
    this.#groundAt = performance.now();
    this.#groundDirty = false;
  }

  /** Milliseconds until the next drawing that would look different; null when all stand still. */
  #nextIn(camera: Camera, now: number): number | null {
    let fastest = 0;
    for (const vehicle of this.fleet.vehicles.values()) {
      if (now > vehicle.began + vehicle.lasts + STEP_MS) continue;
      const way = Math.hypot(vehicle.toX - vehicle.fromX, vehicle.toY - vehicle.fromY);
      fastest = Math.max(fastest, (way * camera.world) / vehicle.lasts);
    }
    if (fastest === 0) return null;
    if (this.fleet.vehicles.size > GLIDE_UP_TO) return STEP_MS;
    return Math.min(STEP_MS, SMOOTH_PX / fastest);
  }

  #tick(now: number): void {
    this.#frame = 0;
    const { camera } = this;
    if (!camera || this.#destroyed) return;
    const glide = this.#nextIn(camera, now);
    if (glide === null || now - this.#actorsAt >= glide) this.#drawActors(camera);
    if (this.#groundDirty && now - this.#groundAt > GROUND_EVERY_MS) this.#drawGround();
    if (this.#pulses.nextIn(now) === 0) this.#pulses.draw(this.#scene(camera));
    const pulse = this.#pulses.nextIn(performance.now());
    if (glide === null && pulse === null) return;
    const rest = glide === null ? STEP_MS : glide - (performance.now() - this.#actorsAt);
    const pause = Math.min(rest, pulse ?? STEP_MS);
    if (pause > FRAMES_MS) {
      clearTimeout(this.#later);
      this.#later = setTimeout(() => this.#schedule(), pause - FRAMES_MS / 4);
    } else this.#schedule();
  }

  #later: ReturnType<typeof setTimeout> | undefined;

  #schedule(): void {
    if (!this.#frame && !this.#destroyed)
      this.#frame = requestAnimationFrame((now) => this.#tick(now));
  }

  /** Draws soon; with `now` even if nothing moves. */
  refresh(ground = true): void {
    this.#groundDirty ||= ground;
    this.#schedule();
  }

  /** Draws all at once, e.g. for a new theme or a new size. */
  repaint(): void {
    this.coloring = coloring(this.fleet, this.#view.color);
    this.#surface?.repaint();
    this.#drawGround();
    if (this.camera) this.#drawActors(this.camera);
  }

  resize(): void {
    this.#surface?.resize();
    this.#drawGround();
    if (this.camera) this.#drawActors(this.camera);
  }

  setVehicles(
    rows: ReadonlyMap<string, Row>,
    gone: Iterable<string>,
    whole: boolean,
    glide: boolean,
  ): void {
    const now = performance.now();
    if (whole) this.fleet.keepOnly(new Set(rows.keys()));
    for (const key of gone) this.fleet.remove(key);
    for (const [key, row] of rows) this.fleet.upsert(key, row, now, glide);
    if (this.#view.color !== null) this.coloring = coloring(this.fleet, this.#view.color);
    this.refresh();
  }

  setZones(zones: Map<string, Zone>, styles: Map<string, KindStyle>): void {
    [this.zones, this.styles] = [zones, styles];
    this.#surface?.setZones(zones, styles);
    this.#surface?.setSelected(this.#selectedZone);
    this.#surface?.setOccupied(new Set(this.counts.keys()));
    this.refresh();
  }

  setCounts(counts: ReadonlyMap<string, number>, announce: boolean): void {
    if (announce) {
      for (const [key, inside] of counts)
        if (inside > (this.counts.get(key) ?? 0)) this.#pulses.start(key);
    }
    this.counts = counts;
    this.#surface?.setOccupied(new Set(counts.keys()));
    this.refresh(false);
  }

  select(vehicle: string | null, zone: string | null): void {
    this.selectedVehicle = vehicle;
    this.#selectedZone = zone;
    this.#surface?.setSelected(zone);
    if (this.camera) this.#drawActors(this.camera);
  }

  hover(key: string | null): void {
    if (key === this.hovered) return;
    this.hovered = key;
    if (this.camera) this.#drawActors(this.camera);
  }

  fit(bounds: Bounds, animate = true): void {
    this.#fitted = bounds;
    this.#surface?.fit(bounds, this.#covered(), animate);
  }

  /** An open panel lies over the map: beside it on wide screens, below on narrow ones. */
  #covered(): Covered {
    const open = this.selectedVehicle !== null || this.#selectedZone !== null;
    if (!open) return { right: 0, bottom: 0 };
    const { clientWidth, clientHeight } = this.#container;
    if (matchMedia(NARROW).matches) return { right: 0, bottom: 0.5 * clientHeight };
    return { right: Math.min(PANEL_PX, clientWidth / 2), bottom: 0 };
  }

  /** Where the vehicles are, with the zones among them; without vehicles all zones. */
  bounds(): Bounds | null {
    const vehicles = boundsOf(
      [...this.fleet.vehicles.values()].map(({ lon, lat }): Point => [lon, lat]),
    );
    const corners = (zone: Zone): Point[] => [
      [zone.bounds.west, zone.bounds.south],
      [zone.bounds.east, zone.bounds.north],
    ];
    const zones = [...this.zones.values()];
    if (!vehicles) return boundsOf(zones.flatMap(corners));
    const grow =
      0.5 * Math.max(vehicles.east - vehicles.west, vehicles.north - vehicles.south, 0.5);
    const close = zones.filter(
      ({ bounds }) =>
        bounds.west > vehicles.west - grow &&
        bounds.east < vehicles.east + grow &&
        bounds.south > vehicles.south - grow &&
        bounds.north < vehicles.north + grow,
    );
    const own: Point[] = [
      [vehicles.west, vehicles.south],
      [vehicles.east, vehicles.north],
    ];
    return boundsOf([...own, ...close.flatMap(corners)]);
  }

  moveBy(dx: number, dy: number): void {
    this.#surface?.moveBy(dx, dy);
  }

  zoomBy(levels: number): void {
    this.#surface?.zoomBy(levels);
  }

  vehicleAt(px: number, py: number, reach: number): string | null {
    return this.#actors.at(px, py, reach);
  }

  /** The smallest zone at a point of the screen, so that one inside another can be reached. */
  zoneAt(px: number, py: number): string | null {
    const { camera } = this;
    if (!camera) return null;
    const [lon, lat] = fromScreen(camera, px, py);
    const hits = [...this.zones.values()].filter((zone) => contains(zone, lon, lat));
    hits.sort((a, b) => size(a) - size(b));
    return hits[0]?.key ?? null;
  }

  destroy(): void {
    this.#destroyed = true;
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#idle);
    clearTimeout(this.#later);
    this.#surface?.destroy();
    this.#container.replaceChildren();
  }
}
