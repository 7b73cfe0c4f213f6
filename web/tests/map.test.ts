import { expect, test } from "vitest";
import { Fleet, placeAt } from "../src/map/fleet";
import { graticuleStep, scaleBar } from "../src/map/graticule";
import {
  boundsOf,
  cameraFor,
  fromScreen,
  metresPerPixel,
  near,
  screenX,
  screenY,
  toLat,
  toLon,
  toX,
  toY,
} from "../src/map/mercator";
import { equals, visitColumns, visits } from "../src/map/visits";
import { contains, kindStyles, occupied, occupiedByPlace, zoneOf } from "../src/map/zones";
import type { MapView, ZoneLayer } from "../src/wire";

const free = { right: 0, bottom: 0 };
const layer: ZoneLayer = {
  control_table: "zones",
  key: "id",
  geometry: "shape",
  label: "name",
  kind: "kind",
};
const view: MapView = {
  kind: "map",
  name: "map",
  title: "Map",
  table: "status",
  key: "id",
  lon: "lon",
  lat: "lat",
  time: "time",
  label: null,
  heading: null,
  color: null,
  trail: 60,
  depth: "depth",
  zones: layer,
  occupancy: null,
  history: null,
  events: null,
};
const time = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString();

test("the projection goes there and back", () => {
  for (const [lon, lat] of [
    [0, 0],
    [-122.4, 36.8],
    [179.9, -60],
    [-179.9, 80],
  ] as const) {
    expect(toLon(toX(lon))).toBeCloseTo(lon, 9);
    expect(toLat(toY(lat))).toBeCloseTo(lat, 9);
  }
});

test("a box is fitted into the free part of the screen", () => {
  const box = { west: -10, east: 10, south: 40, north: 50 };
  const camera = cameraFor(box, 800, 600, { right: 300, bottom: 0 });

  expect(screenX(camera, toX(-10))).toBeGreaterThanOrEqual(47.9);
  expect(screenX(camera, toX(10))).toBeLessThanOrEqual(500 - 47.9);
  expect(screenY(camera, toY(50))).toBeGreaterThanOrEqual(47.9);
  const [lon, lat] = fromScreen(camera, screenX(camera, toX(3)), screenY(camera, toY(44)));
  expect([lon, lat].map((value) => Math.round(value * 1e6) / 1e6)).toEqual([3, 44]);
});

test("a fleet on both sides of the antimeridian makes a small box", () => {
  expect(
    boundsOf([
      [179, 1],
      [-179, 2],
      [178, -1],
    ]),
  ).toEqual({ west: 178, east: 181, south: -1, north: 2 });
  expect(near(0.99, 0.01)).toBeCloseTo(-0.01);
  expect(boundsOf([])).toBeNull();
});

test("the scale bar is exact in the middle of the map", () => {
  const camera = cameraFor({ west: -1, east: 1, south: -1, north: 1 }, 800, 600, free);
  const { metres, pixels } = scaleBar(camera, 120);

  expect(pixels * metresPerPixel(camera)).toBeCloseTo(metres, 6);
  expect(pixels).toBeLessThanOrEqual(120);
  expect(pixels).toBeGreaterThan(40);
  expect(graticuleStep(camera)).toBe(0.5);
});

test("a zone knows what is inside it, holes excepted", () => {
  const ring = (r: number) => [
    [-r, -r],
    [r, -r],
    [r, r],
    [-r, r],
    [-r, -r],
  ];
  const zone = zoneOf(
    {
      id: "z",
      name: "Z",
      kind: "reserve",
      shape: { type: "Polygon", coordinates: [ring(4), ring(1)] },
    },
    layer,
  );
  if (!zone) throw new Error("no zone");

  expect(contains(zone, 2, 2)).toBe(true);
  expect(contains(zone, 0, 0)).toBe(false);
  expect(contains(zone, 5, 0)).toBe(false);
  expect(zoneOf({ id: "z", shape: "not json" }, layer)).toBeNull();
  expect(zoneOf({ id: "z", shape: JSON.stringify(zone.geometry) }, layer)?.bounds).toEqual(
    zone.bounds,
  );
});

test("kinds get the same colour whatever their order", () => {
  const zones = (...kinds: string[]) =>
    kinds
      .map((kind) =>
        zoneOf(
          {
            id: kind,
            kind,
            shape: {
              type: "Polygon",
              coordinates: [
                [
                  [0, 0],
                  [1, 0],
                  [1, 1],
                  [0, 0],
                ],
              ],
            },
          },
          layer,
        ),
      )
      .filter((zone) => zone !== null);

  expect([...kindStyles(zones("b", "a")).values()].map(({ kind, slot }) => [kind, slot])).toEqual([
    ["a", 0],
    ["b", 1],
  ]);
});

test("a vehicle glides from where it was drawn and never beyond", () => {
  const fleet = new Fleet(view);
  fleet.upsert("v", { id: "v", lon: 0, lat: 0, time: time(0), depth: 1 }, 1_000, true);
  fleet.upsert("v", { id: "v", lon: 0.1, lat: 0, time: time(1), depth: 2 }, 2_000, true);
  const vehicle = fleet.vehicles.get("v");
  if (!vehicle) throw new Error("no vehicle");
  const [from, to] = [toX(0), toX(0.1)];

  expect(placeAt(vehicle, 2_000)[0]).toBeCloseTo(from, 12);
  expect(placeAt(vehicle, 2_500)[0]).toBeCloseTo((from + to) / 2, 12);
  expect(placeAt(vehicle, 9_000)[0]).toBeCloseTo(to, 12);
  expect(vehicle.heading).toBeCloseTo(90, 6);
  expect(fleet.depths("v").map(({ depth }) => depth)).toEqual([1, 2]);
});

test("a jump is not drawn as a movement", () => {
  const fleet = new Fleet(view);
  fleet.upsert("v", { id: "v", lon: 0, lat: 0, time: time(0) }, 1_000, true);
  fleet.upsert("v", { id: "v", lon: 30, lat: 0, time: time(1) }, 2_000, true);
  const vehicle = fleet.vehicles.get("v");

  expect(vehicle && placeAt(vehicle, 2_000)[0]).toBeCloseTo(toX(30), 12);
  expect(vehicle?.track).toHaveLength(1);
});

test("a move over the antimeridian goes the short way", () => {
  const fleet = new Fleet(view);
  fleet.upsert("v", { id: "v", lon: 179.9, lat: 0, time: time(0) }, 1_000, true);
  fleet.upsert("v", { id: "v", lon: -179.9, lat: 0, time: time(1) }, 2_000, true);

  expect(fleet.vehicles.get("v")?.heading).toBeCloseTo(90, 6);
});

test("a track forgets what is older than it may be", () => {
  const fleet = new Fleet(view);
  for (let second = 0; second < 200; second += 1) {
    fleet.upsert(
      "v",
      { id: "v", lon: second / 1e4, lat: 0, time: time(second) },
      second * 1_000,
      true,
    );
  }
  const track = fleet.vehicles.get("v")?.track ?? [];

  expect(track.at(0)?.time).toBeGreaterThanOrEqual(Date.parse(time(139)));
  expect(track.length).toBeGreaterThan(30);
});

test("visits tell who is inside and for how long", () => {
  const columns = [
    { name: "auv_id", type: "String" },
    { name: "zone_id", type: "String" },
    { name: "entered", type: "Datetime(time_unit='us')" },
    { name: "exited", type: "Datetime(time_unit='us')" },
    { name: "dwell_s", type: "Float64" },
  ];
  const found = visitColumns({ table: "visits", key: "auv_id" }, columns, "zone_id");
  expect(found).toEqual({ zone: "zone_id", enter: "entered", exit: "exited", dwell: "dwell_s" });
  const rows = [
    { auv_id: "a", zone_id: "z", entered: time(0), exited: time(30), dwell_s: 30 },
    { auv_id: "b", zone_id: "z", entered: time(10), exited: null, dwell_s: 0 },
  ];

  expect(
    visits(rows, found, Date.parse(time(50))).map(({ row, exit, dwell }) => [
      row["auv_id"],
      exit === null,
      dwell,
    ]),
  ).toEqual([
    ["b", true, 40_000],
    ["a", false, 30_000],
  ]);
});

test("a value in a condition cannot end the condition", () => {
  expect(equals("auv_id", "o'hara", [{ name: "auv_id", type: "String" }])).toBe(
    `"auv_id" = 'o''hara'`,
  );
  expect(equals("n", "7", [{ name: "n", type: "Int64" }])).toBe('"n" = 7');
});

test("who is inside is read from a column, from rows, or from the map", () => {
  const rows = [
    { zone: "a", n: 2 },
    { zone: "b", n: 0 },
    { zone: "a", n: 3 },
  ];
  expect([...occupied(rows, "zone", "n")]).toEqual([["a", 3]]);
  expect([...occupied(rows, "zone", null)]).toEqual([
    ["a", 2],
    ["b", 1],
  ]);
  const circle = zoneOf(
    { id: "c", shape: { type: "Point", coordinates: [10, 60] }, radius_m: 50_000 },
    layer,
  );
  const places = [
    { lon: 10, lat: 60.4 },
    { lon: 10.8, lat: 60 },
    { lon: 10, lat: 60.5 },
    { lon: 11, lat: 60 },
  ];
  expect(circle && [...occupiedByPlace([circle], places)]).toEqual([["c", 2]]);
});
