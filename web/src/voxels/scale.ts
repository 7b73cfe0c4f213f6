/** Dark to light without red against green: readable by everybody, and in print. */
const STOPS: readonly (readonly [number, number, number])[] = [
  [68, 1, 84],
  [65, 68, 135],
  [42, 120, 142],
  [34, 168, 132],
  [122, 209, 81],
  [253, 231, 37],
];

export function scaleColor(share: number): string {
  const place = Math.max(0, Math.min(1, share)) * (STOPS.length - 1);
  const from = Math.min(Math.floor(place), STOPS.length - 2);
  const rest = place - from;
  const [one, other] = [STOPS[from] ?? [0, 0, 0], STOPS[from + 1] ?? [0, 0, 0]];
  const mixed = one.map((part, index) => Math.round(part + ((other[index] ?? 0) - part) * rest));
  return `rgb(${mixed.join(" ")})`;
}

export const SCALE_GRADIENT = `linear-gradient(to right, ${STOPS.map((_, index) => scaleColor(index / (STOPS.length - 1))).join(", ")})`;
