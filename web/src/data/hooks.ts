import type { Signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext, useEffect, useMemo } from "preact/hooks";
import type { TableFeed, TopicFeed } from "./feed";
import type { FeedOptions, Store } from "./store";

const StoreContext = createContext<Store | null>(null);
export const StoreProvider = StoreContext.Provider;

export function useStore(): Store {
  const store = useContext(StoreContext);
  if (!store) throw new Error("no store above this component");
  return store;
}

/** Whether what is shown is still true, and since when not. */
export interface Freshness {
  stale: boolean;
  /** Wall-clock ms of the last moment the shown data was known to be true. */
  since: number | null;
}

const STATS_SILENCE_MS = 5_000;

export function freshness(store: Store, heardAt: Signal<number | null>): Freshness {
  const now = store.now.value;
  const lost = store.connection.lostAt.value;
  if (store.connection.state.value !== "live") return { stale: true, since: lost ?? heardAt.value };
  // Rows that an engine should have made and did not are missing from every view.
  if (store.engineProblem.value !== null) return { stale: true, since: heardAt.value };
  const stats = store.statsAt.value;
  if (!store.paused.value && stats !== null && now - stats > STATS_SILENCE_MS) {
    return { stale: true, since: stats };
  }
  return { stale: false, since: heardAt.value };
}

export function useTopic(name: string, options: FeedOptions = {}): TopicFeed {
  const store = useStore();
  const [feed, release] = useMemo(
    () => store.acquireTopic(name, options),
    [store, name, options.where, options.limit],
  );
  useEffect(() => release, [release]);
  return feed;
}

export function useTable(name: string, options: FeedOptions = {}): TableFeed {
  const store = useStore();
  const [feed, release] = useMemo(
    () => store.acquireTable(name, options),
    [store, name, options.where, options.limit],
  );
  useEffect(() => release, [release]);
  return feed;
}
