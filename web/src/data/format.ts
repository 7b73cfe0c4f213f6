/** Numbers, times and ages as people read them; every time is shown in UTC. */
import type { Value } from "../wire";

const THIN = "\u2009";

export function number(value: number, digits?: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const places = digits ?? (Number.isInteger(value) ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 4);
  const [whole = "0", fraction] = size.toFixed(places).split(".");
  const grouped = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, THIN) : whole;
  const sign = value < 0 && Number(size.toFixed(places)) !== 0 ? "−" : "";
  return `${sign}${grouped}${fraction ? `.${fraction}` : ""}`;
}

export function withUnit(value: number | null, unit: string | null, digits?: number): string {
  if (value === null) return "–";
  return unit ? `${number(value, digits)}${THIN}${unit}` : number(value, digits);
}

/** Short for bars and tiles: 1 234, 12.3k, 4.5M. */
export function compact(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e9) return `${number(value / 1e9, 1)}G`;
  if (size >= 1e6) return `${number(value / 1e6, 1)}M`;
  if (size >= 1e5) return `${number(value / 1e3, 0)}k`;
  if (size >= 1e4) return `${number(value / 1e3, 1)}k`;
  if (size >= 100 || Number.isInteger(value)) return number(value, 0);
  return number(value, 1);
}

export function age(ms: number): string {
  const s = Math.max(0, ms) / 1_000;
  if (s < 60) return `${Math.floor(s)}${THIN}s`;
  if (s < 3_600) return `${Math.floor(s / 60)}${THIN}min`;
  if (s < 86_400)
    return `${Math.floor(s / 3_600)}${THIN}h ${Math.floor((s % 3_600) / 60)}${THIN}min`;
  return `${Math.floor(s / 86_400)}${THIN}d ${Math.floor((s % 86_400) / 3_600)}${THIN}h`;
}

export function millis(ms: number): string {
  if (ms < 10) return `${number(ms, 1)}${THIN}ms`;
  if (ms < 1_000) return `${number(ms, 0)}${THIN}ms`;
  return ms < 60_000 ? `${number(ms / 1_000, 1)}${THIN}s` : age(ms);
}

function iso(ms: number): string | null {
  return Number.isFinite(ms) && Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : null;
}

export function clock(ms: number): string {
  return iso(ms)?.slice(11, 19) ?? "–";
}

export function clockMinutes(ms: number): string {
  return iso(ms)?.slice(11, 16) ?? "–";
}

export function dateTime(ms: number): string {
  return iso(ms)?.slice(0, 19).replace("T", " ") ?? "–";
}

export function isTime(type: string): boolean {
  return /^datetime/i.test(type);
}

export function isNumber(type: string): boolean {
  return /^(u?int|float|decimal|u\d|i\d|f\d)/i.test(type);
}

export function cell(value: Value | undefined, type: string): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return number(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") {
    if (!isTime(type)) return value;
    const ms = Date.parse(value);
    return Number.isNaN(ms) ? value : dateTime(ms);
  }
  return JSON.stringify(value);
}

export function latitude(degrees: number, digits = 3): string {
  return `${Math.abs(degrees).toFixed(digits)}°${THIN}${degrees < 0 ? "S" : "N"}`;
}

export function longitude(degrees: number, digits = 3): string {
  const wrapped = ((((degrees + 180) % 360) + 360) % 360) - 180;
  return `${Math.abs(wrapped).toFixed(digits)}°${THIN}${wrapped < 0 ? "W" : "E"}`;
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${number(count)} ${count === 1 ? one : many}`;
}
