import { isNumber, isTime } from "../data/format";
import type { Column, Row, VisitHistory } from "../wire";

/** Which columns of a visits table mean what. */
export interface VisitColumns {
  zone: string | null;
  enter: string | null;
  exit: string | null;
  dwell: string | null;
}

/** The declared names, or else those that the column names tell. */
export function visitColumns(
  history: VisitHistory,
  columns: readonly Column[],
  zoneKey: string | null,
): VisitColumns {
  const times = columns.filter((column) => isTime(column.type)).map((column) => column.name);
  const numbers = columns.filter((column) => isNumber(column.type)).map((column) => column.name);
  const named = (names: string[], pattern: RegExp) =>
    names.find((name) => pattern.test(name)) ?? null;
  const all = columns.map((column) => column.name);
  return {
    zone: history.zone ?? (zoneKey && all.includes(zoneKey) ? zoneKey : null),
    enter: history.enter ?? named(times, /enter|entry|start|since|from|begin/i),
    exit: history.exit ?? named(times, /exit|left|leave|end|until|to$/i),
    dwell: history.dwell ?? named(numbers, /dwell|duration|stay/i),
  };
}

/** An SQL condition that holds for one value of a column. */
export function equals(column: string, value: string, columns: readonly Column[]): string {
  const type = columns.find((each) => each.name === column)?.type ?? "";
  const literal =
    isNumber(type) && Number.isFinite(Number(value)) ? value : `'${value.replaceAll("'", "''")}'`;
  return `"${column.replaceAll('"', '""')}" = ${literal}`;
}

export interface Visit {
  row: Row;
  enter: number;
  /** null while it goes on. */
  exit: number | null;
  /** Milliseconds inside so far. */
  dwell: number;
}

function dwellMs(row: Row, column: string | null): number | null {
  const value = column === null ? null : row[column];
  if (typeof value !== "number") return null;
  return /_ms$/.test(column ?? "")
    ? value
    : /_min(utes)?$/.test(column ?? "")
      ? value * 60_000
      : value * 1_000;
}

/** Visits, newest first; one that goes on has been going on until `eventNow`. */
export function visits(rows: Iterable<Row>, columns: VisitColumns, eventNow: number): Visit[] {
  const out: Visit[] = [];
  for (const row of rows) {
    const read = (name: string | null) => {
      const value = name === null ? null : row[name];
      const ms = typeof value === "string" ? Date.parse(value) : Number.NaN;
      return Number.isNaN(ms) ? null : ms;
    };
    const enter = read(columns.enter);
    if (enter === null) continue;
    const exit = read(columns.exit);
    const told = exit === null ? null : dwellMs(row, columns.dwell);
    out.push({ row, enter, exit, dwell: told ?? Math.max(0, (exit ?? eventNow) - enter) });
  }
  return out.sort((a, b) => b.enter - a.enter);
}
