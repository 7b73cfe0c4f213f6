import { signal } from "@preact/signals";
import type { View } from "../wire";

export const helpOpen = signal(false);
export const searchOpen = signal(false);
/** True after `g`, while the next letter is awaited. */
export const going = signal(false);

const GO_WAIT_MS = 1_500;

/** A letter for each view: the first of its title that is free, then any that is free. */
export function goLetters(views: readonly Pick<View, "name" | "title">[]): Map<string, string> {
  const letters = new Map<string, string>();
  for (const view of views) {
    const wanted = `${view.title}${view.name}abcdefghijklmnopqrstuvwxyz`.toLowerCase();
    const free = [...wanted].find((letter) => /[a-z]/.test(letter) && !letters.has(letter));
    if (free) letters.set(free, view.name);
  }
  return letters;
}

export function goTo(name: string): void {
  const target = document.getElementById(`view-${name}`);
  target?.scrollIntoView({ block: "nearest" });
  target?.focus({ preventScroll: true });
}

function typing(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || /^(input|textarea|select)$/i.test(target.tagName))
  );
}

function pressable(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    target.closest("button, a, summary, [role=button], [role=option]") !== null
  );
}

export interface KeyActions {
  letters: Map<string, string>;
  togglePause: () => void;
  close: () => void;
}

export function listenForKeys({ letters, togglePause, close }: KeyActions): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      if (!helpOpen.value && !searchOpen.value) close();
      return;
    }
    if (typing(event.target)) return;
    if (going.value) {
      going.value = false;
      clearTimeout(timer);
      const name = letters.get(event.key.toLowerCase());
      if (name) {
        event.preventDefault();
        goTo(name);
      }
      return;
    }
    if (event.key === "g") {
      going.value = true;
      timer = setTimeout(() => {
        going.value = false;
      }, GO_WAIT_MS);
    } else if (event.key === "/") {
      event.preventDefault();
      searchOpen.value = true;
    } else if (event.key === "?") {
      helpOpen.value = true;
    } else if (event.key === " " && !pressable(event.target)) {
      event.preventDefault();
      togglePause();
    }
  };
  document.addEventListener("keydown", onKey);
  return () => document.removeEventListener("keydown", onKey);
}
