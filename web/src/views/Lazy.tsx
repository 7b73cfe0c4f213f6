import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ViewFrame } from "../ui/ViewFrame";
import type { View } from "../wire";
import s from "./Placeholder.module.css";

const NEVER = signal<number | null>(null);

/** A view whose code is fetched when it is first shown. */
export function lazy<V extends View>(
  load: () => Promise<ComponentType<{ view: V }>>,
): ComponentType<{ view: V }> {
  let loaded: ComponentType<{ view: V }> | null = null;
  return function Later({ view }: { view: V }) {
    const [Inner, setInner] = useState(() => loaded);
    const [problem, setProblem] = useState<string | null>(null);
    useEffect(() => {
      if (Inner) return;
      load().then(
        (component) => {
          loaded = component;
          setInner(() => component);
        },
        (error: unknown) => setProblem(String(error)),
      );
    }, []);
    if (Inner) return <Inner view={view} />;
    return (
      <ViewFrame id={view.name} title={view.title} heardAt={NEVER}>
        <p class={s.placeholder}>{problem ? `This view could not be loaded: ${problem}` : ""}</p>
      </ViewFrame>
    );
  };
}
