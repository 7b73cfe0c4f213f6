import type { MultiPolygon } from "geojson";
import { feature } from "topojson-client";
import type { GeometryCollection, Topology } from "topojson-specification";
import fine from "world-atlas/land-10m.json?url";
import coarse from "world-atlas/land-50m.json?url";

/** Natural Earth land areas (public domain): 1:50 m for overviews, 1:10 m close up. */
export type Detail = "coarse" | "fine";

const ADDRESS: Record<Detail, string> = { coarse, fine };
const loaded = new Map<Detail, Promise<MultiPolygon>>();

async function fetchLand(detail: Detail): Promise<MultiPolygon> {
  const answer = await fetch(new URL(ADDRESS[detail], document.baseURI));
  if (!answer.ok) throw new Error(`no coastline: the gateway answered ${answer.status}`);
  const topology = (await answer.json()) as Topology<{ land: GeometryCollection }>;
  const land = feature(topology, topology.objects.land);
  const coordinates = land.features.flatMap(({ geometry }) => {
    if (geometry.type === "Polygon") return [geometry.coordinates];
    return geometry.type === "MultiPolygon" ? geometry.coordinates : [];
  });
  return { type: "MultiPolygon", coordinates };
}

export function land(detail: Detail): Promise<MultiPolygon> {
  const held = loaded.get(detail) ?? fetchLand(detail);
  loaded.set(detail, held);
  // A failed download may be tried again later.
  held.catch(() => loaded.delete(detail));
  return held;
}
