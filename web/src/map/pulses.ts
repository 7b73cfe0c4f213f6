import { color, reducedMotion } from "../theme";
import { near, screenY, toX, toY } from "./mercator";
import { cleared, type Scene } from "./overlay";

const PULSE_MS = 1_600;
/** A busy zone does not pulse all the time. */
const REST_MS = 5_000;
const FRAME_MS = 60;

/** The outlines of zones that somebody has just entered. */
export class Pulses {
  readonly canvas = document.createElement("canvas");
  readonly #began = new Map<string, number>();
  #drawnAt = 0;
  #shown = false;

  start(key: string): void {
    const now = performance.now();
    if (now - (this.#began.get(key) ?? Number.NEGATIVE_INFINITY) > REST_MS)
      this.#began.set(key, now);
  }

  /** Milliseconds until the next drawing; null when no zone pulses. */
  nextIn(now: number): number | null {
    const active = [...this.#began.values()].some((began) => now - began < PULSE_MS);
    return active || this.#shown ? Math.max(0, FRAME_MS - (now - this.#drawnAt)) : null;
  }

  draw(scene: Scene): void {
    const { camera, zones, slots } = scene;
    const context = cleared(this.canvas, camera);
    if (!context) return;
    const now = performance.now();
    this.#drawnAt = now;
    this.#shown = false;
    context.lineJoin = "round";
    for (const [key, began] of this.#began) {
      const zone = zones.get(key);
      const part = (now - began) / PULSE_MS;
      if (!zone || part >= 1) continue;
      this.#shown = true;
      context.strokeStyle = color(`kind-${slots.get(zone.kind) ?? 0}`);
      // Without motion the outline is simply strong for the same time.
      context.globalAlpha = reducedMotion.matches ? 0.6 : (1 - part) * 0.7;
      context.lineWidth = reducedMotion.matches ? 5 : 2 + part * 14;
      context.beginPath();
      const shift = near(toX(zone.middle[0]), camera.x) - toX(zone.middle[0]);
      for (const ring of zone.polygons.flat()) {
        ring.forEach(([lon = 0, lat = 0], index) => {
          const x = camera.width / 2 + (toX(lon) + shift - camera.x) * camera.world;
          if (index === 0) context.moveTo(x, screenY(camera, toY(lat)));
          else context.lineTo(x, screenY(camera, toY(lat)));
        });
      }
      context.stroke();
    }
    context.globalAlpha = 1;
  }
}
