import { signal } from "@preact/signals";

export interface Span {
  /** Event-time seconds. */
  min: number;
  max: number;
}

/** The part of time that every chart shows after a drag; null follows the clock. */
export const zoom = signal<Span | null>(null);

/** Seconds of the common axis; null takes the longest that a chart declares. */
export const spanChosen = signal<number | null>(null);

export const SPANS: readonly { seconds: number; label: string }[] = [
  { seconds: 300, label: "5 min" },
  { seconds: 900, label: "15 min" },
  { seconds: 3_600, label: "1 h" },
  { seconds: 21_600, label: "6 h" },
  { seconds: 86_400, label: "1 d" },
];

export function shownSpan(eventNowMs: number, longest: number): Span {
  if (zoom.value) return zoom.value;
  const max = Math.ceil(eventNowMs / 1_000);
  return { min: max - (spanChosen.value ?? longest), max };
}
