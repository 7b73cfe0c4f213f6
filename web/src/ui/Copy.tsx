import { useState } from "preact/hooks";
import s from "./controls.module.css";

async function toClipboard(text: string): Promise<void> {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Plain http on another host has no clipboard API.
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

export function CopyButton({ text, label }: { text: () => string; label: string }) {
  const [said, say] = useState<string | null>(null);
  return (
    <button
      type="button"
      class={s.small}
      onClick={(event) => {
        event.stopPropagation();
        toClipboard(text())
          .then(() => say("Copied"))
          .catch(() => say("Copy failed"))
          .finally(() => setTimeout(() => say(null), 1_500));
      }}
    >
      <span aria-live="polite">{said ?? label}</span>
    </button>
  );
}
