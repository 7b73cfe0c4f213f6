import { signal } from "@preact/signals";

/** What a person is looking at on the map of a view. */
export type Selection =
  | { what: "vehicle"; view: string; key: string }
  | { what: "zone"; view: string; key: string }
  | { what: "new-zone"; view: string };

export const selection = signal<Selection | null>(null);

/** Asks the map to bring something into sight; the map clears it. */
export const reveal = signal<Selection | null>(null);

export function select(next: Selection | null, show = false): void {
  selection.value = next;
  if (show) reveal.value = next;
}

/** Set while a zone is being changed, so that a stray key or click does not lose the work. */
export const editing = signal(false);
