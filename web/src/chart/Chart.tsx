import type { Signal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clock, withUnit } from "../data/format";
import { useStore, useTable, useTopic } from "../data/hooks";
import { palette } from "../theme";
import { Empty } from "../ui/Empty";
import { ViewFrame } from "../ui/ViewFrame";
import type { ChartView, Row } from "../wire";
import { shownSpan } from "./axis";
import s from "./Chart.module.css";
import { makePlot, PLACES } from "./plot";
import { type Aligned, align, choose, type Line, perSecond, withGaps } from "./series";

const ROWS = 6_000;

interface PlotProps {
  view: ChartView;
  data: Aligned;
  heardAt: Signal<number | null>;
  dropped?: Signal<number>;
}

function useShown(data: Aligned): string[] {
  const shown = useRef<string[]>([]);
  return useMemo(() => {
    const next = choose(data.lines, shown.current, PLACES);
    // The same list keeps its identity, so that the plot is made anew only when lines change.
    if (next.join("\n") !== shown.current.join("\n")) shown.current = next;
    return shown.current;
  }, [data]);
}

function Readout({
  view,
  data,
  labels,
  at,
}: {
  view: ChartView;
  data: Aligned;
  labels: string[];
  at: number | null;
}) {
  const byLabel = new Map(data.lines.map((line) => [line.label, line.values]));
  const moment = at === null ? null : (data.x[at] ?? null);
  const start = at === null ? null : (data.starts[at] ?? null);
  const more = data.lines.length - labels.length;
  return (
    <ul class={s.legend}>
      {labels.map((label, index) => {
        const values = byLabel.get(label) ?? [];
        const value =
          at === null ? (values.findLast((v) => v !== null) ?? null) : (values[at] ?? null);
        return (
          <li key={label}>
            <i style={{ background: `var(--series-${index % PLACES})` }} aria-hidden="true" />
            {label} <b>{withUnit(value, view.unit)}</b>
          </li>
        );
      })}
      {more > 0 && <li class={s.more}>+ {more} more not drawn</li>}
      {moment !== null && (
        <li class={s.moment}>
          {start !== null
            ? `${clock(start * 1_000)}–${clock(moment * 1_000)}`
            : clock(moment * 1_000)}{" "}
          UTC
        </li>
      )}
    </ul>
  );
}

function Plot({ view, data, heardAt, dropped }: PlotProps) {
  const store = useStore();
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const labels = useShown(data);
  const lines = useRef<(Line | undefined)[]>([]);
  const longest = useMemo(
    () => Math.max(...store.app.views.map((other) => (other.kind === "chart" ? other.span : 0))),
    [store],
  );
  const span = shownSpan(store.eventNow.value, longest);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const made = makePlot(element, {
      labels,
      thresholds: view.thresholds,
      fromZero: view.stat === "rate" && view.y.length === 0,
      width: element.clientWidth,
      height: element.clientHeight,
      onCursor: setAt,
      lines: () => lines.current,
    });
    plot.current = made;
    const sized = new ResizeObserver(() =>
      made.setSize({ width: element.clientWidth, height: element.clientHeight }),
    );
    sized.observe(element);
    return () => {
      sized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [labels, view]);

  useEffect(() => {
    const byLabel = new Map(data.lines.map((line) => [line.label, line]));
    lines.current = labels.map((label) => byLabel.get(label));
    const columns = [data.x, ...lines.current.map((line) => line?.values ?? [])];
    plot.current?.setData(columns as unknown as uPlot.AlignedData, false);
    plot.current?.setScale("x", span);
  }, [data, labels, view]);

  useEffect(() => {
    plot.current?.setScale("x", span);
  }, [span.min, span.max]);

  useEffect(() => palette.subscribe(() => plot.current?.redraw()), []);

  const latest = labels
    .map((label) => {
      const values = data.lines.find((line) => line.label === label)?.values ?? [];
      return `${label} ${withUnit(values.findLast((value) => value !== null) ?? null, view.unit)}`;
    })
    .join(", ");
  const empty = data.x.length === 0;
  return (
    <ViewFrame
      id={view.name}
      title={view.title}
      note={view.unit}
      heardAt={heardAt}
      {...(dropped ? { dropped } : {})}
      className={s.chart}
    >
      <Readout view={view} data={data} labels={labels} at={at} />
      <div
        ref={box}
        class={s.plot}
        role="img"
        aria-label={`${view.title}: ${latest || "no values yet"}`}
        hidden={empty}
      />
      {empty && (
        <div class={s.empty}>
          <Empty
            what={`${view.title} is drawn here once the first rows are in.`}
            topic={view.topic}
          />
        </div>
      )}
    </ViewFrame>
  );
}

function drawn(view: ChartView, x: string, rows: Iterable<Row>): Aligned {
  const { y, by, band, mark } = view;
  const aligned = align(rows, { x, y, by, band, mark });
  return view.stat === "rate" ? perSecond(aligned) : aligned;
}

function OfTopic({ view, topic }: { view: ChartView; topic: string }) {
  const { app } = useStore();
  const feed = useTopic(topic, { limit: ROWS });
  const revision = feed.revision.value;
  const x = view.x ?? app.topics[topic]?.time ?? "time";
  const data = useMemo(
    () =>
      drawn(
        view,
        x,
        feed.entries.map((entry) => entry.row),
      ),
    [feed, revision, view],
  );
  return <Plot view={view} data={data} heardAt={feed.heardAt} dropped={feed.dropped} />;
}

function OfTable({ view, table }: { view: ChartView; table: string }) {
  const feed = useTable(table);
  const revision = feed.revision.value;
  const x = view.x ?? "time";
  const data = useMemo(() => drawn(view, x, feed.rows.values()), [feed, revision, view]);
  return <Plot view={view} data={data} heardAt={feed.heardAt} />;
}

/** Rows per second as the gateway counts them, kept since the page was opened. */
function OfRate({ view, topic }: { view: ChartView; topic: string }) {
  const store = useStore();
  const stats = store.stats.value;
  const data = useMemo((): Aligned => {
    const points = new Map<number, number>();
    for (const { at, stats: then } of store.statsHistory) {
      const rate = then.topics[topic]?.rows_per_s;
      if (rate !== undefined) points.set((then.clock ? Date.parse(then.clock) : at) / 1_000, rate);
    }
    const x = withGaps([...points.keys()].sort((a, b) => a - b));
    const values = x.map((moment) => points.get(moment) ?? null);
    return { x, starts: x.map(() => null), lines: x.length ? [{ label: topic, values }] : [] };
  }, [stats, topic]);
  return <Plot view={view} data={data} heardAt={store.statsAt} />;
}

export function ChartPanel({ view }: { view: ChartView }) {
  if (view.stat === "rate" && view.y.length === 0 && view.topic)
    return <OfRate view={view} topic={view.topic} />;
  if (view.table) return <OfTable view={view} table={view.table} />;
  return <OfTopic view={view} topic={view.topic ?? ""} />;
}
