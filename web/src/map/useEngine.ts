import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { TableFeed } from "../data/feed";
import { useStore } from "../data/hooks";
import { text } from "../data/row";
import { reveal, type Selection } from "../shell/selection";
import { palette, reducedMotion } from "../theme";
import type { MapView, Row } from "../wire";
import { MapEngine } from "./engine";
import { kindStyles, occupied, occupiedByPlace, type Zone, zoneOf } from "./zones";

const PARSED = new WeakMap<Row, Zone | null>();

function parsed(row: Row, view: MapView): Zone | null {
  if (!view.zones) return null;
  const held = PARSED.get(row);
  if (held !== undefined) return held;
  const zone = zoneOf(row, view.zones);
  PARSED.set(row, zone);
  return zone;
}

export function useZones(view: MapView, feed: TableFeed | null): Map<string, Zone> {
  const revision = feed?.revision.value;
  return useMemo(() => {
    const zones = new Map<string, Zone>();
    for (const [key, row] of feed?.rows ?? []) {
      const zone = parsed(row, view);
      if (zone) zones.set(key, zone);
    }
    return zones;
  }, [view, feed, revision]);
}

interface EngineInput {
  view: MapView;
  status: TableFeed;
  zones: Map<string, Zone>;
  occupancy: TableFeed | null;
  chosen: Selection | null;
}

interface EngineOutput {
  engine: MapEngine | null;
  /** Grows when the camera moved. */
  moved: number;
  plain: string | null;
}

/** Keeps a map engine alive in `box` and feeds it. */
export function useEngine(
  box: { current: HTMLDivElement | null },
  input: EngineInput,
): EngineOutput {
  const { view, status, zones, occupancy, chosen } = input;
  const store = useStore();
  const [engine, setEngine] = useState<MapEngine | null>(null);
  const [moved, setMoved] = useState(0);
  const [plain, setPlain] = useState<string | null>(null);
  const counted = useRef(false);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const made = new MapEngine(
      element,
      view,
      (vehicle) => text(vehicle.row, view.label) || vehicle.key,
      {
        camera: () => setMoved((count) => count + 1),
        plain: setPlain,
      },
    );
    setEngine(made);
    const sized = new ResizeObserver(() => made.resize());
    sized.observe(element);
    const repaint = palette.subscribe(() => made.repaint());
    return () => {
      sized.disconnect();
      repaint();
      made.destroy();
      setEngine(null);
    };
  }, [view]);

  const revision = status.revision.value;
  useEffect(() => {
    if (!engine || revision === 0) return;
    engine.eventNow = store.eventNow.peek();
    const whole = status.changed.reset || engine.fleet.vehicles.size === 0;
    const { upserts, deletes } = status.changed;
    engine.setVehicles(whole ? status.rows : upserts, deletes, whole, !reducedMotion.matches);
  }, [engine, status, revision]);

  useEffect(() => {
    engine?.setZones(zones, kindStyles(zones.values()));
  }, [engine, zones]);

  const occupancyRevision = occupancy?.revision.value;
  useEffect(() => {
    const layer = view.occupancy;
    if (!engine || !layer || !occupancy || !occupancyRevision) return;
    const counts = occupied(occupancy.rows.values(), layer.key, layer.count ?? null);
    engine.setCounts(counts, counted.current);
    counted.current = true;
  }, [engine, occupancy, occupancyRevision]);

  const tick = store.now.value;
  useEffect(() => {
    if (!engine || view.occupancy || zones.size === 0 || store.paused.peek()) return;
    const { vehicles } = engine.fleet;
    if (vehicles.size === 0) return;
    engine.setCounts(occupiedByPlace(zones.values(), vehicles.values()), counted.current);
    counted.current = true;
  }, [engine, zones, tick]);

  useEffect(() => {
    engine?.select(
      chosen?.what === "vehicle" ? chosen.key : null,
      chosen?.what === "zone" ? chosen.key : null,
    );
  }, [engine, chosen]);

  const ready = revision > 0 && (!view.zones || zones.size > 0);
  const opened = useMemo(() => Date.now(), []);
  useEffect(() => {
    // Zones may be none at all: then the vehicles alone place the map.
    if (!engine || engine.placed || (!ready && tick - opened < 2_500)) return;
    const bounds = engine.bounds();
    if (bounds) engine.fit(bounds, false);
  }, [engine, ready, tick]);

  const wanted = reveal.value;
  useEffect(() => {
    if (!engine || !wanted || wanted.view !== view.name) return;
    reveal.value = null;
    document.getElementById(`view-${view.name}`)?.scrollIntoView({ block: "nearest" });
    if (wanted.what === "zone") {
      const zone = zones.get(wanted.key);
      if (zone) engine.fit(zone.bounds);
    } else if (wanted.what === "vehicle") {
      const vehicle = engine.fleet.vehicles.get(wanted.key);
      const around = 0.3;
      if (vehicle) {
        const { lon, lat } = vehicle;
        engine.fit({
          west: lon - around,
          east: lon + around,
          south: lat - around,
          north: lat + around,
        });
      }
    }
  }, [engine, wanted]);

  return { engine, moved, plain };
}

/** The table of a layer that may not be declared. */
export function useMaybeTable(name: string | null): TableFeed | null {
  const store = useStore();
  const held = useMemo(() => (name === null ? null : store.acquireTable(name)), [store, name]);
  useEffect(() => held?.[1], [held]);
  return held?.[0] ?? null;
}
