import type { Signal } from "@preact/signals";
import { Component, type ComponentChildren } from "preact";
import { age, clock } from "../data/format";
import { freshness, useStore } from "../data/hooks";
import s from "./ViewFrame.module.css";

class Boundary extends Component<{ children: ComponentChildren }, { broken: string | null }> {
  override state = { broken: null as string | null };

  override componentDidCatch(error: unknown): void {
    this.setState({ broken: error instanceof Error ? error.message : String(error) });
  }

  override render() {
    if (this.state.broken === null) return this.props.children;
    return (
      <div class={s.broken} role="alert">
        <p>This view stopped: {this.state.broken}</p>
        <button type="button" onClick={() => this.setState({ broken: null })}>
          Show it again
        </button>
      </div>
    );
  }
}

/** When the view's data was last true. */
export function Fresh({ heardAt }: { heardAt: Signal<number | null> }) {
  const store = useStore();
  const { stale, since } = freshness(store, heardAt);
  const passed = since === null ? null : age(store.now.value - since);
  if (store.paused.value) return <span class={s.fresh}>paused</span>;
  if (stale) {
    return (
      <span class={`${s.fresh} ${s.stale}`} title={since ? `last true at ${clock(since)} UTC` : ""}>
        {passed === null ? "no data yet" : `stale · ${passed}`}
      </span>
    );
  }
  return (
    <span class={s.fresh} title={since ? `last row at ${clock(since)} UTC` : ""}>
      {passed === null ? "waiting" : `${passed} ago`}
    </span>
  );
}

interface FrameProps {
  id: string;
  title: string;
  note?: string | null;
  heardAt: Signal<number | null>;
  dropped?: Signal<number>;
  actions?: ComponentChildren;
  className?: string | undefined;
  children: ComponentChildren;
}

export function ViewFrame({
  id,
  title,
  note,
  heardAt,
  dropped,
  actions,
  className,
  children,
}: FrameProps) {
  const store = useStore();
  const { stale } = freshness(store, heardAt);
  const missing = dropped?.value ?? 0;
  return (
    <section
      id={`view-${id}`}
      class={`${s.frame} ${stale ? s.isStale : ""} ${className ?? ""}`}
      aria-labelledby={`title-${id}`}
      tabIndex={-1}
      data-view={id}
    >
      <header class={s.head}>
        <h2 id={`title-${id}`}>{title}</h2>
        {note && <span class={s.note}>{note}</span>}
        <Fresh heardAt={heardAt} />
        {missing > 0 && (
          <span class={s.missing} title="The gateway left these out because this page was too slow">
            {missing} not shown
          </span>
        )}
        <span class={s.actions}>{actions}</span>
      </header>
      <div class={s.body}>
        <Boundary>{children}</Boundary>
      </div>
    </section>
  );
}
