import type { Column, Row, Value } from "../wire";

export interface Sort {
  column: string;
  descending: boolean;
}

function rank(a: Value | undefined, b: Value | undefined): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

/** Rows in the wanted order; nulls last in both directions, ties as they came. */
export function sorted(rows: Row[], sort: Sort | null): Row[] {
  if (!sort) return rows;
  const { column, descending } = sort;
  const sign = descending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [a[column] ?? null, b[column] ?? null];
    if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1;
    return sign * rank(x, y);
  });
}

function csvCell(value: Value | undefined): string {
  if (value === null || value === undefined) return "";
  const plain = typeof value === "object" ? JSON.stringify(value) : String(value);
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

/** RFC 4180 text with a header line. */
export function csv(columns: readonly Column[], rows: readonly Row[]): string {
  const lines = [columns.map((column) => csvCell(column.name))];
  for (const row of rows) lines.push(columns.map((column) => csvCell(row[column.name])));
  return `${lines.map((line) => line.join(",")).join("\r\n")}\r\n`;
}

/** The slice of rows to draw for a scroll position, a few beyond each edge. */
export function visible(
  scrollTop: number,
  height: number,
  rowHeight: number,
  count: number,
): { from: number; to: number } {
  const beyond = 6;
  const from = Math.max(0, Math.floor(scrollTop / rowHeight) - beyond);
  const to = Math.min(count, Math.ceil((scrollTop + height) / rowHeight) + beyond);
  return { from: Math.min(from, to), to };
}
