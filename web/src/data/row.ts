import type { Row } from "../wire";
import { cell } from "./format";

export function text(row: Row, column: string | null): string {
  const value = column === null ? null : row[column];
  return value === null || value === undefined ? "" : String(value);
}

export function numeric(row: Row, column: string | null): number | null {
  const value = column === null ? null : row[column];
  return typeof value === "number" ? value : null;
}

/** What an event says: the value of a column, or a sentence with `{column}` in it. */
export function sentence(row: Row, words: string): string {
  if (!words.includes("{")) return text(row, words);
  return words.replace(/\{([^{}]+)\}/g, (_, column: string) => cell(row[column], ""));
}
