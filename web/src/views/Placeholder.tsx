import { signal } from "@preact/signals";
import { ViewFrame } from "../ui/ViewFrame";
import type { View } from "../wire";
import s from "./Placeholder.module.css";

const NEVER = signal<number | null>(null);

export function Placeholder({ view }: { view: View }) {
  return (
    <ViewFrame id={view.name} title={view.title} heardAt={NEVER}>
      <p class={s.placeholder}>
        This page cannot show views of kind “{view.kind}” yet. The data is in the app’s topics and
        tables.
      </p>
    </ViewFrame>
  );
}
