import type { Row } from "../wire";

export interface Line {
  label: string;
  values: (number | null)[];
  /** Where values are expected to lie, at each moment; absent where the view has no band. */
  low?: (number | null)[];
  high?: (number | null)[];
  /** Moments at which the value is out of the ordinary. */
  marked?: boolean[];
}

/** Columns as uPlot wants them: every line has a value or null at each moment. */
export interface Aligned {
  /** Event-time seconds, ascending. */
  x: number[];
  /** Where the window of each moment began, seconds; null where there is no window. */
  starts: (number | null)[];
  lines: Line[];
}

export interface Shape {
  x: string;
  y: readonly string[];
  by: string | null;
  /** Columns of the lower and upper bound of the first column of `y`. */
  band?: readonly [string, string] | null;
  /** A column that is true where the first column of `y` is out of the ordinary. */
  mark?: string | null;
}

interface Point {
  value: number | null;
  low: number | null;
  high: number | null;
  marked: boolean;
}

function numberOf(row: Row, column: string | undefined): number | null {
  const value = column === undefined ? null : row[column];
  return typeof value === "number" ? value : null;
}

/** A step this many times the usual one is drawn as a gap. */
const GAP_STEPS = 2.5;

function median(sorted: number[]): number {
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/** The moments, with one more inside every hole, so that no line is drawn across it. */
export function withGaps(moments: readonly number[]): number[] {
  const steps = moments.slice(1).map((moment, index) => moment - (moments[index] ?? moment));
  const usual = median([...steps].sort((a, b) => a - b));
  if (!(usual > 0)) return [...moments];
  const out: number[] = [];
  moments.forEach((moment, index) => {
    const before = moments[index - 1];
    if (before !== undefined && moment - before > GAP_STEPS * usual) out.push(before + usual);
    out.push(moment);
  });
  return out;
}

function seconds(row: Row, column: string): number | null {
  const value = row[column];
  if (typeof value === "number") return value;
  const ms = typeof value === "string" ? Date.parse(value) : Number.NaN;
  return Number.isNaN(ms) ? null : ms / 1_000;
}

/**
 * Turns rows into lines, one per value of `by` and column of `y`. Of several rows for the same
 * moment and line the last wins: a window that is updated replaces what it said before.
 */
export function align(rows: Iterable<Row>, shape: Shape): Aligned {
  const points = new Map<string, Map<number, Point>>();
  const starts = new Map<number, number>();
  const { band, mark } = shape;
  const first = new Set<string>();
  for (const row of rows) {
    const x = seconds(row, shape.x);
    if (x === null) continue;
    const start = shape.x === "window_start" ? null : seconds(row, "window_start");
    if (start !== null) starts.set(x, start);
    const group = shape.by === null ? null : String(row[shape.by] ?? "–");
    for (const column of shape.y) {
      const label = group === null ? column : shape.y.length > 1 ? `${group} · ${column}` : group;
      const line = points.get(label) ?? new Map<number, Point>();
      points.set(label, line);
      if (column === shape.y[0]) first.add(label);
      line.set(x, {
        value: numberOf(row, column),
        low: numberOf(row, band?.[0]),
        high: numberOf(row, band?.[1]),
        marked: mark ? row[mark] === true : false,
      });
    }
  }
  const moments = new Set<number>();
  for (const line of points.values()) for (const x of line.keys()) moments.add(x);
  const x = withGaps([...moments].sort((a, b) => a - b));
  const lines = [...points].map(([label, line]): Line => {
    const at = x.map((moment) => line.get(moment));
    const values = at.map((point) => point?.value ?? null);
    if (!first.has(label)) return { label, values };
    return {
      label,
      values,
      ...(band && {
        low: at.map((point) => point?.low ?? null),
        high: at.map((point) => point?.high ?? null),
      }),
      ...(mark && { marked: at.map((point) => point?.marked ?? false) }),
    };
  });
  lines.sort((a, b) => a.label.localeCompare(b.label, "en", { numeric: true }));
  return { x, starts: x.map((moment) => starts.get(moment) ?? null), lines };
}

/** Stretches of moments at which both bounds are known, as [first, last] indices. */
export function bandStretches({ low, high }: Line): [number, number][] {
  const out: [number, number][] = [];
  let begun: number | null = null;
  const count = low?.length ?? 0;
  for (let index = 0; index <= count; index += 1) {
    const known = index < count && low?.[index] != null && high?.[index] != null;
    if (known) begun ??= index;
    else if (begun !== null) {
      out.push([begun, index - 1]);
      begun = null;
    }
  }
  return out;
}

/** Each line's change per second, at the later of two moments. */
export function perSecond({ x, starts, lines }: Aligned): Aligned {
  const rate = (values: readonly (number | null)[]) => {
    let before: { x: number; value: number } | null = null;
    return values.map((value, index) => {
      const at = x[index] ?? 0;
      const last = before;
      before = value === null ? null : { x: at, value };
      return value === null || last === null ? null : (value - last.value) / (at - last.x);
    });
  };
  return { x, starts, lines: lines.map(({ label, values }) => ({ label, values: rate(values) })) };
}

/**
 * Keeps the lines that are already shown and fills free places with those that have the most
 * points, so that a colour never jumps from one line to another.
 */
export function choose(lines: readonly Line[], shown: readonly string[], places: number): string[] {
  const present = new Map(lines.map((line) => [line.label, line]));
  const kept = shown.filter((label) => present.has(label));
  const counted = lines
    .filter((line) => !kept.includes(line.label))
    .map((line) => ({ label: line.label, points: line.values.filter((v) => v !== null).length }))
    .sort((a, b) => b.points - a.points);
  return [...kept, ...counted.map((line) => line.label)].slice(0, places);
}

/** Indices of points without a neighbour on either side: a line alone would not show them. */
export function isolated(values: ArrayLike<number | null | undefined>): number[] {
  const out: number[] = [];
  for (let index = 0; index < values.length; index += 1) {
    const alone = values[index - 1] == null && values[index + 1] == null;
    if (values[index] != null && alone) out.push(index);
  }
  return out;
}
