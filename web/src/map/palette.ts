import { color } from "../theme";
import type { Fleet } from "./fleet";

const CATEGORIES = 8;

/** How the colour column of a map view is drawn: categories by name, numbers along a ramp. */
export interface Coloring {
  entries: { label: string; css: string }[];
  of: (value: string | number | null) => number;
  /** Colours by index, ready for a canvas. */
  canvas: string[];
}

const RAMP = 6;

function ramp(part: number): string {
  return `color-mix(in oklab, var(--series-0) ${Math.round((1 - part) * 100)}%, var(--series-3))`;
}

function mixed(part: number): string {
  const rgb = (token: string) => (color(token).match(/\d+/g) ?? []).map(Number);
  const [a, b] = [rgb("series-0"), rgb("series-3")];
  return `rgb(${[0, 1, 2].map((i) => Math.round((a[i] ?? 0) * (1 - part) + (b[i] ?? 0) * part)).join(", ")})`;
}

export function coloring(fleet: Fleet, column: string | null): Coloring {
  const plain: Coloring = { entries: [], of: () => 0, canvas: [color("vehicle")] };
  if (column === null) return plain;
  const values = [...fleet.vehicles.values()]
    .map((vehicle) => vehicle.color)
    .filter((value) => value !== null);
  if (values.length === 0) return plain;
  if (values.every((value) => typeof value === "number")) {
    const low = values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
    const high = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const spread = high - low || 1;
    const steps = [...Array(RAMP).keys()].map((step) => step / (RAMP - 1));
    return {
      entries: [
        { label: `${low.toPrecision(3)} ${column}`, css: ramp(0) },
        { label: `${high.toPrecision(3)}`, css: ramp(1) },
      ],
      of: (value) =>
        typeof value === "number" ? Math.round(((value - low) / spread) * (RAMP - 1)) : 0,
      canvas: steps.map(mixed),
    };
  }
  const names = [...new Set(values.map(String))].sort().slice(0, CATEGORIES);
  const places = new Map(names.map((name, index) => [name, index]));
  return {
    entries: names.map((label, index) => ({ label, css: `var(--series-${index})` })),
    of: (value) => places.get(String(value)) ?? names.length,
    canvas: [...names.map((_, index) => color(`series-${index}`)), color("vehicle")],
  };
}
