import { signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";
const THEMES: readonly Theme[] = ["auto", "light", "dark"];
const STORED_AS = "headrace.theme";

function stored(): Theme {
  try {
    const value = localStorage.getItem(STORED_AS) as Theme | null;
    return value && THEMES.includes(value) ? value : "auto";
  } catch {
    // Storage may be switched off; the choice then lasts as long as the page.
    return "auto";
  }
}

export const theme = signal<Theme>(stored());
/** Grows when colours on canvases must be read again. */
export const palette = signal(0);

export function applyTheme(next: Theme): void {
  theme.value = next;
  if (next === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = next;
  try {
    localStorage.setItem(STORED_AS, next);
  } catch {
    // See above.
  }
  palette.value += 1;
}

export function nextTheme(): Theme {
  return THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? "auto";
}

export function startTheme(): void {
  applyTheme(theme.value);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    palette.value += 1;
  });
}

let probe: HTMLElement | null = null;
let read = { palette: -1, rgb: new Map<string, string>() };

function resolve(token: string): string {
  if (!probe) {
    probe = document.createElement("i");
    probe.hidden = true;
    document.body.append(probe);
  }
  probe.style.color = `var(--${token})`;
  const parts = getComputedStyle(probe).color.match(/[\d.]+/g) ?? ["128", "128", "128"];
  return parts.slice(0, 3).join(", ");
}

/** A token's colour as canvases and MapLibre understand it, in the theme shown now. */
export function color(token: string, alpha = 1): string {
  if (read.palette !== palette.peek()) read = { palette: palette.peek(), rgb: new Map() };
  const rgb = read.rgb.get(token) ?? resolve(token);
  read.rgb.set(token, rgb);
  return `rgba(${rgb}, ${alpha})`;
}

export const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
