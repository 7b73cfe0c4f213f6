import type { MultiPolygon } from "geojson";
import {
  type ExpressionSpecification,
  type GeoJSONSource,
  type LayerSpecification,
  Map as MapLibre,
  type StyleSpecification,
  setWorkerUrl,
} from "maplibre-gl";
import "maplibre-gl/dist/maplibre-gl.css";
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?worker&url";
import { color, reducedMotion } from "../theme";
import { land } from "./coast";
import {
  type Bounds,
  type Camera,
  type Covered,
  cameraFor,
  leastWorld,
  toLat,
  toLon,
  toX,
  toY,
} from "./mercator";
import { FINE_COAST_LEVEL, type Surface, type SurfaceOptions, ZOOM_LEVELS } from "./surface";
import { collection, KIND_SLOTS, type KindStyle, type Zone } from "./zones";

setWorkerUrl(new URL(workerUrl, document.baseURI).href);

const TILE = 512;
const NOWHERE: MultiPolygon = { type: "MultiPolygon", coordinates: [] };
const SLOTS = [...Array(KIND_SLOTS).keys()];

const isOccupied: ExpressionSpecification = ["boolean", ["feature-state", "occupied"], false];
const isSelected: ExpressionSpecification = ["boolean", ["feature-state", "selected"], false];

function kindColor(): ExpressionSpecification {
  const pairs = SLOTS.flatMap((slot) => [slot, color(`kind-${slot}`)]);
  return [
    "match",
    ["get", "slot"],
    ...pairs,
    color("kind-0"),
  ] as unknown as ExpressionSpecification;
}

function zoneLines(styles: Iterable<KindStyle>): LayerSpecification[] {
  return [...styles].map(({ slot, dash }) => ({
    id: `zone-line-${slot}`,
    type: "line",
    source: "zones",
    filter: ["==", ["get", "slot"], slot],
    paint: {
      "line-color": color(`kind-${slot}`),
      "line-width": ["case", isSelected, 3, isOccupied, 2, 1.2],
      ...(dash.length ? { "line-dasharray": dash.map((part) => part / 1.5) } : {}),
    },
  }));
}

function style(): StyleSpecification {
  return {
    version: 8,
    sources: {
      land: { type: "geojson", data: NOWHERE, tolerance: 0.3 },
      zones: {
        type: "geojson",
        data: { type: "FeatureCollection", features: [] },
        promoteId: "key",
      },
    },
    layers: [
      { id: "sea", type: "background", paint: { "background-color": color("sea") } },
      { id: "land", type: "fill", source: "land", paint: { "fill-color": color("land") } },
      {
        id: "coast",
        type: "line",
        source: "land",
        paint: { "line-color": color("coast"), "line-width": 0.8 },
      },
      {
        id: "zone-fill",
        type: "fill",
        source: "zones",
        paint: {
          "fill-color": kindColor(),
          "fill-opacity": ["case", isSelected, 0.4, isOccupied, 0.32, 0.1],
        },
      },
    ],
  };
}

export class GlSurface implements Surface {
  readonly #map: MapLibre;
  readonly #container: HTMLElement;
  #fine = false;
  #ready = false;
  #zones: [Map<string, Zone>, Map<string, KindStyle>] | null = null;
  #slots = "";
  #occupied: ReadonlySet<string> = new Set();
  #selected: string | null = null;

  constructor({ container, onCamera, onFailure }: SurfaceOptions) {
    this.#container = container;
    this.#map = new MapLibre({
      container,
      style: style(),
      attributionControl: false,
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
      rollEnabled: false,
      keyboard: false,
      boxZoom: false,
      fadeDuration: 0,
      minZoom: ZOOM_LEVELS.least,
      maxZoom: ZOOM_LEVELS.most,
      center: [0, 20],
      zoom: 1.5,
    });
    this.#map.touchZoomRotate.disableRotation();
    this.#map.on("move", () => {
      this.#wantFineCoast();
      onCamera();
    });
    this.#map.on("resize", onCamera);
    this.#map.on("webglcontextlost", () => onFailure("the browser took WebGL away"));
    // Not "load": that waits for the coastline, and zones need not.
    this.#map.on("style.load", () => {
      this.#ready = true;
      if (this.#zones) this.setZones(...this.#zones);
      onCamera();
    });
    land("coarse").then(
      (data) => this.#setLand(data),
      (error: unknown) => onFailure(String(error)),
    );
    this.#limitZoom();
  }

  #source(id: string): GeoJSONSource | undefined {
    return this.#map.getSource<GeoJSONSource>(id);
  }

  #setLand(data: MultiPolygon): void {
    if (this.#ready) this.#source("land")?.setData(data);
    else this.#map.once("style.load", () => this.#source("land")?.setData(data));
  }

  #wantFineCoast(): void {
    if (this.#fine || this.#map.getZoom() < FINE_COAST_LEVEL) return;
    this.#fine = true;
    land("fine").then(
      (data) => this.#setLand(data),
      () => {
        this.#fine = false;
      },
    );
  }

  #limitZoom(): void {
    const { clientWidth, clientHeight } = this.#container;
    this.#map.setMinZoom(Math.log2(leastWorld(clientWidth, clientHeight) / TILE));
  }

  camera(): Camera {
    const { lng, lat } = this.#map.getCenter();
    const { clientWidth: width, clientHeight: height } = this.#container;
    return { x: toX(lng), y: toY(lat), world: TILE * 2 ** this.#map.getZoom(), width, height };
  }

  fit(bounds: Bounds, covered: Covered, animate: boolean): void {
    const { clientWidth, clientHeight } = this.#container;
    const { x, y, world } = cameraFor(bounds, clientWidth, clientHeight, covered);
    const target = {
      center: [toLon(x), toLat(y)] as [number, number],
      zoom: Math.log2(world / TILE),
    };
    if (animate && !reducedMotion.matches) this.#map.easeTo({ ...target, duration: 500 });
    else this.#map.jumpTo(target);
  }

  moveBy(dx: number, dy: number): void {
    this.#map.panBy([dx, dy], { animate: false });
  }

  zoomBy(levels: number): void {
    const zoom = this.#map.getZoom() + levels;
    if (reducedMotion.matches) this.#map.jumpTo({ zoom });
    else this.#map.easeTo({ zoom, duration: 200 });
  }

  setZones(zones: Map<string, Zone>, styles: Map<string, KindStyle>): void {
    this.#zones = [zones, styles];
    if (!this.#ready) return;
    // Two kinds may share the palette's last place.
    const bySlot = new Map([...styles.values()].map((kind) => [kind.slot, kind]));
    const slots = [...bySlot.keys()].join();
    if (slots !== this.#slots) {
      for (const slot of SLOTS) {
        if (this.#map.getLayer(`zone-line-${slot}`)) this.#map.removeLayer(`zone-line-${slot}`);
      }
      for (const layer of zoneLines(bySlot.values())) this.#map.addLayer(layer);
      this.#slots = slots;
    }
    this.#source("zones")?.setData(collection(zones.values(), styles));
    this.#applyState();
  }

  #applyState(): void {
    if (!this.#ready) return;
    for (const key of this.#zones?.[0].keys() ?? []) {
      this.#map.setFeatureState(
        { source: "zones", id: key },
        { occupied: this.#occupied.has(key), selected: key === this.#selected },
      );
    }
  }

  setOccupied(keys: ReadonlySet<string>): void {
    const before = this.#occupied;
    this.#occupied = keys;
    if (!this.#ready) return;
    for (const key of new Set([...before, ...keys])) {
      if (before.has(key) !== keys.has(key)) {
        this.#map.setFeatureState({ source: "zones", id: key }, { occupied: keys.has(key) });
      }
    }
  }

  setSelected(key: string | null): void {
    this.#selected = key;
    this.#applyState();
  }

  repaint(): void {
    if (!this.#ready) return;
    this.#map.setPaintProperty("sea", "background-color", color("sea"));
    this.#map.setPaintProperty("land", "fill-color", color("land"));
    this.#map.setPaintProperty("coast", "line-color", color("coast"));
    this.#map.setPaintProperty("zone-fill", "fill-color", kindColor());
    for (const slot of SLOTS) {
      if (this.#map.getLayer(`zone-line-${slot}`)) {
        this.#map.setPaintProperty(`zone-line-${slot}`, "line-color", color(`kind-${slot}`));
      }
    }
  }

  resize(): void {
    this.#map.resize();
    this.#limitZoom();
  }

  destroy(): void {
    this.#map.remove();
  }
}
