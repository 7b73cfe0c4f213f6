import type { Bounds, Camera, Covered } from "./mercator";
import type { KindStyle, Zone } from "./zones";

/** What lies under the vehicles: sea, land and zones, and the camera over them. */
export interface Surface {
  camera(): Camera;
  fit(bounds: Bounds, covered: Covered, animate: boolean): void;
  moveBy(dx: number, dy: number): void;
  zoomBy(levels: number): void;
  setZones(zones: Map<string, Zone>, styles: Map<string, KindStyle>): void;
  setOccupied(keys: ReadonlySet<string>): void;
  setSelected(key: string | null): void;
  /** Reads the theme's colours again. */
  repaint(): void;
  resize(): void;
  destroy(): void;
}

export interface SurfaceOptions {
  container: HTMLElement;
  onCamera: () => void;
  /** Called when the surface cannot go on, e.g. when WebGL is lost. */
  onFailure: (reason: string) => void;
}

export const ZOOM_LEVELS = { least: 0, most: 18 };
/** From this level on the finest coastline is worth its size. */
export const FINE_COAST_LEVEL = 5;
