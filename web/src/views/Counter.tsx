import { useMemo } from "preact/hooks";
import type { TableFeed, TopicFeed } from "../data/feed";
import { compact, number } from "../data/format";
import { freshness, useStore, useTable, useTopic } from "../data/hooks";
import { numeric } from "../data/row";
import { Fresh } from "../ui/ViewFrame";
import type { CounterView, Row } from "../wire";
import s from "./Counter.module.css";

const KEPT = 90;
const ROWS = 2_000;

/** The counter's recent values as a word-sized line. */
function Sparkline({ values }: { values: readonly number[] }) {
  if (values.length < 2) return <svg class={s.spark} aria-hidden="true" />;
  const low = Math.min(...values);
  const spread = Math.max(...values) - low || 1;
  const points = values
    .map(
      (value, index) =>
        `${((KEPT - values.length + index) / (KEPT - 1)) * 100},${22 - ((value - low) / spread) * 20}`,
    )
    .join(" ");
  return (
    <svg class={s.spark} viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">
      <polyline points={points} />
    </svg>
  );
}

function useTrace(value: number | null): number[] {
  const { now, paused } = useStore();
  const trace = useMemo(() => ({ values: [] as number[], at: 0 }), []);
  if (value !== null && !paused.value && now.value !== trace.at) {
    trace.at = now.value;
    trace.values.push(value);
    if (trace.values.length > KEPT) trace.values.shift();
  }
  return trace.values;
}

interface TileProps {
  view: CounterView;
  value: number | null;
  feed: TopicFeed | TableFeed | null;
  note?: string | null;
}

function Tile({ view, value, feed, note }: TileProps) {
  const store = useStore();
  const trace = useTrace(value);
  const heardAt = feed?.heardAt ?? store.statsAt;
  const { stale } = freshness(store, heardAt);
  const shown =
    value === null
      ? "–"
      : Math.abs(value) >= 1e5
        ? compact(value)
        : number(value, Number.isInteger(value) ? 0 : 1);
  return (
    <section
      id={`view-${view.name}`}
      class={`${s.tile} ${stale ? s.stale : ""}`}
      aria-label={`${view.title}: ${shown} ${view.unit ?? ""}`}
      tabIndex={-1}
    >
      <h2>
        {view.title} {note && <small>{note}</small>} {stale && <Fresh heardAt={heardAt} />}
      </h2>
      <p>
        <b>{shown}</b> {view.unit && <span>{view.unit}</span>}
      </p>
      <Sparkline values={trace} />
    </section>
  );
}

/** Totals of a whole topic come from the gateway's own count: no rows need to travel. */
function FromStats({ view, topic }: { view: CounterView; topic: string }) {
  const stats = useStore().topicStats(topic);
  const value = (view.aggregate === "rate" ? stats?.rows_per_s : stats?.rows) ?? null;
  return <Tile view={view} value={value} feed={null} />;
}

function sum(rows: Iterable<Row>, column: string | null): number {
  let total = 0;
  for (const row of rows) total += numeric(row, column) ?? 0;
  return total;
}

function FromTopic({ view, topic }: { view: CounterView; topic: string }) {
  const feed = useTopic(topic, { where: view.where, limit: ROWS });
  feed.revision.value;
  const store = useStore();
  const arrivals = useMemo(() => [] as { at: number; seen: number }[], []);
  const now = store.now.value;
  if (arrivals.at(-1)?.at !== now) arrivals.push({ at: now, seen: feed.seen });
  while (arrivals.length > 11) arrivals.shift();
  const first = arrivals[0];
  const last = feed.entries.at(-1)?.row;
  let value: number | null;
  if (view.aggregate === "last") value = last ? numeric(last, view.column) : null;
  else if (view.aggregate === "sum")
    value = sum(
      feed.entries.map((entry) => entry.row),
      view.column,
    );
  else if (view.aggregate === "rate") {
    value = first && now > first.at ? ((feed.seen - first.seen) * 1_000) / (now - first.at) : null;
  } else value = feed.seen;
  const partial = view.aggregate === "sum" || view.aggregate === "count";
  return (
    <Tile
      view={view}
      value={value}
      feed={feed}
      note={partial && feed.seen >= ROWS ? `newest ${ROWS}` : null}
    />
  );
}

function FromTable({ view, table }: { view: CounterView; table: string }) {
  const feed = useTable(table, { where: view.where });
  feed.revision.value;
  const rows = feed.rows;
  let value: number | null = rows.size;
  if (view.aggregate === "sum") value = sum(rows.values(), view.column);
  if (view.aggregate === "last") value = numeric([...rows.values()].at(-1) ?? {}, view.column);
  return <Tile view={view} value={value} feed={feed} />;
}

export function CounterPanel({ view }: { view: CounterView }) {
  if (view.table) return <FromTable view={view} table={view.table} />;
  const topic = view.topic ?? "";
  const whole = !view.where && (view.aggregate === "rate" || view.aggregate === "count");
  return whole ? <FromStats view={view} topic={topic} /> : <FromTopic view={view} topic={topic} />;
}
