import type { Position } from "geojson";
import { color } from "../theme";
import { land } from "./coast";
import {
  type Bounds,
  type Camera,
  type Covered,
  cameraFor,
  leastWorld,
  toX,
  toY,
} from "./mercator";
import { FINE_COAST_LEVEL, type Surface, type SurfaceOptions, ZOOM_LEVELS } from "./surface";
import type { KindStyle, Zone } from "./zones";

const TILE = 512;

function trace(path: Path2D, polygons: Position[][][]): void {
  for (const rings of polygons) {
    for (const ring of rings) {
      ring.forEach(([lon = 0, lat = 0], index) => {
        if (index === 0) path.moveTo(toX(lon), toY(lat));
        else path.lineTo(toX(lon), toY(lat));
      });
      path.closePath();
    }
  }
}

/** The same map without WebGL: everything on a 2-D canvas. */
export class CanvasSurface implements Surface {
  readonly #canvas = document.createElement("canvas");
  readonly #container: HTMLElement;
  readonly #onCamera: () => void;
  #camera: Camera = { x: 0.5, y: 0.42, world: 1_024, width: 1, height: 1 };
  #land: Path2D | null = null;
  #fine = false;
  #zones: { key: string; path: Path2D; style: KindStyle | undefined }[] = [];
  #occupied: ReadonlySet<string> = new Set();
  #selected: string | null = null;
  #frame = 0;
  readonly #pointers = new Map<number, { x: number; y: number }>();
  readonly #stop = new AbortController();

  constructor({ container, onCamera, onFailure }: SurfaceOptions) {
    this.#container = container;
    this.#onCamera = onCamera;
    this.#canvas.style.cssText =
      "position:absolute;inset:0;width:100%;height:100%;touch-action:none";
    container.append(this.#canvas);
    this.#listen();
    this.resize();
    land("coarse").then(
      ({ coordinates }) => this.#setLand(coordinates),
      (error: unknown) => onFailure(String(error)),
    );
  }

  #setLand(polygons: Position[][][]): void {
    this.#land = new Path2D();
    trace(this.#land, polygons);
    this.#schedule();
  }

  #listen(): void {
    const { signal } = this.#stop;
    const canvas = this.#canvas;
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const box = canvas.getBoundingClientRect();
        this.#zoomAt(-event.deltaY / 300, event.clientX - box.left, event.clientY - box.top);
      },
      { signal, passive: false },
    );
    canvas.addEventListener(
      "pointerdown",
      (event) => {
        canvas.setPointerCapture(event.pointerId);
        this.#pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      },
      { signal },
    );
    canvas.addEventListener("pointermove", (event) => this.#dragged(event), { signal });
    for (const name of ["pointerup", "pointercancel"] as const) {
      canvas.addEventListener(name, (event) => this.#pointers.delete(event.pointerId), { signal });
    }
    canvas.addEventListener(
      "dblclick",
      (event) => {
        const box = canvas.getBoundingClientRect();
        this.#zoomAt(1, event.clientX - box.left, event.clientY - box.top);
      },
      { signal },
    );
  }

  #dragged(event: PointerEvent): void {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.#pointers.set(event.pointerId, now);
    if (!other) {
      this.moveBy(before.x - now.x, before.y - now.y);
      return;
    }
    const spread = (point: { x: number; y: number }) =>
      Math.hypot(point.x - other.x, point.y - other.y) || 1;
    const box = this.#canvas.getBoundingClientRect();
    this.#zoomAt(
      Math.log2(spread(now) / spread(before)),
      (now.x + other.x) / 2 - box.left,
      (now.y + other.y) / 2 - box.top,
    );
  }

  #zoomAt(levels: number, px: number, py: number): void {
    const { x, y, world, width, height } = this.#camera;
    const most = TILE * 2 ** ZOOM_LEVELS.most;
    const next = Math.max(leastWorld(width, height), Math.min(most, world * 2 ** levels));
    const shift = 1 / world - 1 / next;
    this.#set({
      ...this.#camera,
      x: x + (px - width / 2) * shift,
      y: y + (py - height / 2) * shift,
      world: next,
    });
  }

  #set(camera: Camera): void {
    const half = camera.height / 2 / camera.world;
    const y = Math.max(half, Math.min(1 - half, camera.y));
    this.#camera = { ...camera, x: ((camera.x % 1) + 1) % 1, y };
    if (!this.#fine && Math.log2(camera.world / TILE) >= FINE_COAST_LEVEL) {
      this.#fine = true;
      land("fine").then(
        ({ coordinates }) => this.#setLand(coordinates),
        () => {
          this.#fine = false;
        },
      );
    }
    this.#schedule();
    this.#onCamera();
  }

  #schedule(): void {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw(): void {
    const context = this.#canvas.getContext("2d");
    if (!context) return;
    const { width, height, world, x, y } = this.#camera;
    const ratio = devicePixelRatio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = color("sea");
    context.fillRect(0, 0, width, height);
    const half = width / 2 / world;
    // Three copies of the world side by side, of which the screen shows at most two.
    for (const copy of [-1, 0, 1]) {
      if (x + half < copy || x - half > copy + 1) continue;
      context.setTransform(
        ratio * world,
        0,
        0,
        ratio * world,
        ratio * (width / 2 + (copy - x) * world),
        ratio * (height / 2 - y * world),
      );
      this.#paint(context, 1 / world);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  #paint(context: CanvasRenderingContext2D, pixel: number): void {
    if (this.#land) {
      context.fillStyle = color("land");
      context.fill(this.#land, "evenodd");
      context.strokeStyle = color("coast");
      context.lineWidth = 0.8 * pixel;
      context.setLineDash([]);
      context.stroke(this.#land);
    }
    for (const { key, path, style } of this.#zones) {
      const occupied = this.#occupied.has(key);
      const selected = key === this.#selected;
      context.fillStyle = color(`kind-${style?.slot ?? 0}`, selected ? 0.4 : occupied ? 0.32 : 0.1);
      context.fill(path, "evenodd");
      context.strokeStyle = color(`kind-${style?.slot ?? 0}`);
      context.lineWidth = (selected ? 3 : occupied ? 2 : 1.2) * pixel;
      context.setLineDash((style?.dash ?? []).map((part) => part * pixel));
      context.stroke(path);
    }
  }

  camera(): Camera {
    return this.#camera;
  }

  fit(bounds: Bounds, covered: Covered): void {
    const { width, height } = this.#camera;
    this.#set(cameraFor(bounds, width, height, covered));
  }

  moveBy(dx: number, dy: number): void {
    const { x, y, world } = this.#camera;
    this.#set({ ...this.#camera, x: x + dx / world, y: y + dy / world });
  }

  zoomBy(levels: number): void {
    this.#zoomAt(levels, this.#camera.width / 2, this.#camera.height / 2);
  }

  setZones(zones: Map<string, Zone>, styles: Map<string, KindStyle>): void {
    this.#zones = [...zones.values()].map((zone) => {
      const path = new Path2D();
      trace(path, zone.polygons);
      return { key: zone.key, path, style: styles.get(zone.kind) };
    });
    this.#schedule();
  }

  setOccupied(keys: ReadonlySet<string>): void {
    this.#occupied = keys;
    this.#schedule();
  }

  setSelected(key: string | null): void {
    this.#selected = key;
    this.#schedule();
  }

  repaint(): void {
    this.#schedule();
  }

  resize(): void {
    const { clientWidth: width, clientHeight: height } = this.#container;
    this.#canvas.width = Math.max(1, Math.round(width * devicePixelRatio));
    this.#canvas.height = Math.max(1, Math.round(height * devicePixelRatio));
    const world = Math.max(this.#camera.world, leastWorld(width, height));
    this.#set({ ...this.#camera, width, height, world });
  }

  destroy(): void {
    cancelAnimationFrame(this.#frame);
    this.#stop.abort();
    this.#canvas.remove();
  }
}
