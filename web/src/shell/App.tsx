import { useLayoutEffect, useMemo } from "preact/hooks";
import { TimeAxis } from "../chart/TimeAxis";
import { useStore } from "../data/hooks";
import { viewFor } from "../views/registry";
import type { ChartView, View } from "../wire";
import s from "./App.module.css";
import { arrange } from "./arrange";
import { ConnectionBar } from "./ConnectionBar";
import { Help } from "./Help";
import { going, goLetters, listenForKeys } from "./keyboard";
import { Search } from "./Search";
import { editing, select } from "./selection";
import { TopBar } from "./TopBar";

function Views({ views }: { views: View[] }) {
  return (
    <>
      {views.map((view) => {
        const Shown = viewFor(view.kind);
        return <Shown key={view.name} view={view} />;
      })}
    </>
  );
}

export function App() {
  const store = useStore();
  const { views } = store.app;
  const slots = useMemo(() => arrange(views), [views]);
  const letters = useMemo(() => goLetters(views), [views]);
  // With the first drawing, not after it: a key pressed as soon as the page shows must count.
  useLayoutEffect(
    () =>
      listenForKeys({
        letters,
        togglePause: () => {
          store.paused.value = !store.paused.value;
        },
        close: () => {
          if (!editing.value) select(null);
        },
      }),
    [store, letters],
  );
  const charts = slots.below.filter((view): view is ChartView => view.kind === "chart");
  const rest = slots.below.filter((view) => view.kind !== "chart");
  return (
    <div class={s.page}>
      <TopBar />
      <ConnectionBar />
      <main class={s.main}>
        {slots.strip.length > 0 && (
          <div class={s.strip}>
            <Views views={slots.strip} />
          </div>
        )}
        <div class={`${s.top} ${slots.side.length ? "" : s.alone}`}>
          <div class={s.hero}>
            <Views views={slots.hero} />
          </div>
          {slots.side.length > 0 && (
            <div class={s.side}>
              <Views views={slots.side} />
            </div>
          )}
        </div>
        {charts.length > 0 && (
          <div>
            <TimeAxis longest={Math.max(...charts.map((view) => view.span))} />
            <div class={s.charts}>
              <Views views={charts} />
            </div>
          </div>
        )}
        {rest.length > 0 && (
          <div class={s.rest}>
            <Views views={rest} />
          </div>
        )}
      </main>
      <Help letters={letters} />
      <Search />
      {going.value && (
        <p class={s.going} role="status">
          go to … press a letter ({[...letters.keys()].join(" ")})
        </p>
      )}
    </div>
  );
}
