import type { Place, View } from "../wire";

export type Slot = Place | "strip";

/**
 * Where each view stands: as declared, else the first large one as hero and the rest by kind.
 * Counters are too small to stand among large views: they form a strip above all.
 */
export function arrange(views: readonly View[]): Record<Slot, View[]> {
  const placed: Record<Slot, View[]> = { strip: [], hero: [], side: [], below: [] };
  const claimed = views.some((view) => view.kind !== "counter" && view.place === "hero");
  for (const view of views) {
    if (view.kind === "counter") {
      placed.strip.push(view);
      continue;
    }
    const usual = view.kind === "events" ? "side" : "below";
    const first = !claimed && placed.hero.length === 0 && usual === "below";
    placed[view.place ?? (first ? "hero" : usual)].push(view);
  }
  return placed;
}
