import type { TableFeed } from "../data/feed";
import { age, cell, clock, dateTime, latitude, longitude, withUnit } from "../data/format";
import { useStore, useTable, useTopic } from "../data/hooks";
import { numeric, sentence, text } from "../data/row";
import { select } from "../shell/selection";
import { CopyButton } from "../ui/Copy";
import { SeverityMark, severityOf } from "../ui/severity";
import type { EventsView, MapView, VisitHistory } from "../wire";
import type { MapEngine } from "./engine";
import { SILENT_MS } from "./overlay";
import s from "./Panel.module.css";
import { PanelHead } from "./PanelHead";
import { equals, visitColumns, visits } from "./visits";

const VISITS = 50;
const ALERTS = 20;

/** The way down and up again: depth grows downwards. */
function DepthProfile({
  points,
  unit,
}: {
  points: readonly { time: number; depth: number }[];
  unit: string;
}) {
  const last = points.at(-1);
  const first = points[0];
  if (!first || !last || points.length < 2)
    return <p class={s.none}>The depth profile grows with each position.</p>;
  const deepest = Math.max(1, ...points.map((point) => point.depth));
  const spread = last.time - first.time || 1;
  const line = points.map(
    ({ time, depth }) => `${((time - first.time) / spread) * 100},${(depth / deepest) * 40 + 1}`,
  );
  return (
    <figure class={s.depth}>
      <svg
        viewBox="0 0 100 42"
        preserveAspectRatio="none"
        role="img"
        aria-label={`Depth over the last ${age(spread)}: now ${withUnit(last.depth, unit, 1)}, deepest ${withUnit(deepest, unit, 1)}`}
      >
        <polygon points={`0,0 ${line.join(" ")} 100,0`} />
        <polyline points={line.join(" ")} />
      </svg>
      <figcaption>
        <span>{age(spread)} ago</span>
        <span>deepest {withUnit(deepest, unit, 1)}</span>
        <span>now</span>
      </figcaption>
    </figure>
  );
}

function ZoneHistory({ view, history, id }: { view: MapView; history: VisitHistory; id: string }) {
  const store = useStore();
  const declared = store.app.tables[history.table]?.columns ?? [];
  const feed = useTable(history.table, { where: equals(history.key, id, declared), limit: VISITS });
  feed.revision.value;
  const columns = visitColumns(history, declared, view.zones?.key ?? null);
  const found = visits(feed.rows.values(), columns, store.eventNow.value);
  const zones = view.zones ? store.tableRows(view.zones.control_table) : new Map();
  return (
    <section>
      <h4>Zones visited</h4>
      {feed.error.value && <p class={s.none}>{feed.error.value.message}</p>}
      {found.length === 0 && <p class={s.none}>None so far.</p>}
      <ul class={s.rows}>
        {found.slice(0, VISITS).map(({ row, enter, exit, dwell }) => {
          const zone = text(row, columns.zone);
          const name = text(zones.get(zone) ?? {}, view.zones?.label ?? null) || zone;
          return (
            <li key={`${zone}/${enter}`}>
              <button
                type="button"
                class={s.link}
                onClick={() => select({ what: "zone", view: view.name, key: zone }, true)}
              >
                {name}
              </button>
              <span title={`${dateTime(enter)} UTC`}>
                {clock(enter)}–{exit === null ? "now" : clock(exit)}
              </span>
              <b>{age(dwell)}</b>
            </li>
          );
        })}
      </ul>
    </section>
  );
}

function Alerts({ topic, column, id }: { topic: string; column: string; id: string }) {
  const { app } = useStore();
  const declared = app.topics[topic]?.columns ?? [];
  const feed = useTopic(topic, { where: equals(column, id, declared), limit: ALERTS });
  feed.revision.value;
  const list = app.views.find(
    (view): view is EventsView => view.kind === "events" && view.topic === topic,
  );
  const time = list?.time ?? app.topics[topic]?.time ?? "time";
  return (
    <section>
      <h4>{list?.title ?? topic}</h4>
      {feed.entries.length === 0 && <p class={s.none}>None.</p>}
      <ul class={s.rows}>
        {[...feed.entries].reverse().map(({ id: entry, row }) => (
          <li key={entry}>
            <SeverityMark severity={severityOf(text(row, list?.severity ?? "severity"))} />
            <span class={s.grow}>{sentence(row, list?.text ?? "message")}</span>
            <time title={`${dateTime(Date.parse(text(row, time)))} UTC`}>
              {clock(Date.parse(text(row, time)))}
            </time>
          </li>
        ))}
      </ul>
    </section>
  );
}

interface PanelProps {
  view: MapView;
  engine: MapEngine;
  status: TableFeed;
  id: string;
}

export function VehiclePanel({ view, engine, status, id }: PanelProps) {
  const store = useStore();
  status.revision.value;
  const row = status.rows.get(id);
  const { eventNow } = store;
  if (!row) {
    return (
      <aside class={s.panel} aria-label={`Vehicle ${id}`}>
        <PanelHead title={id} kind="vehicle" />
        <p class={s.none}>No position is known now: it left the table or its time ran out.</p>
      </aside>
    );
  }
  const at = Date.parse(text(row, view.time));
  const silent = eventNow.value - at;
  const [lat, lon] = [numeric(row, view.lat), numeric(row, view.lon)];
  const shownBefore = new Set([view.key, view.lon, view.lat, view.time, view.label]);
  const rest = (store.app.tables[view.table]?.columns ?? []).filter(
    (column) => !shownBefore.has(column.name),
  );
  return (
    <aside class={s.panel} aria-label={`Vehicle ${id}`}>
      <PanelHead title={text(row, view.label) || id} kind="vehicle" />
      <div class={s.scroll}>
        <dl class={s.facts}>
          <dt>last seen</dt>
          <dd>
            {age(silent)} ago{silent > SILENT_MS && " · silent"} <small>{clock(at)} UTC</small>
          </dd>
          <dt>position</dt>
          <dd data-fact="position">
            {lat === null ? "–" : latitude(lat, 4)} {lon === null ? "" : longitude(lon, 4)}
          </dd>
          {rest.map((column) => (
            <>
              <dt>{column.name}</dt>
              <dd>{cell(row[column.name], column.type)}</dd>
            </>
          ))}
        </dl>
        {view.depth && (
          <section>
            <h4>Depth profile</h4>
            <DepthProfile points={engine.fleet.depths(id)} unit="m" />
          </section>
        )}
        {view.history && <ZoneHistory view={view} history={view.history} id={id} />}
        {view.events && (
          <Alerts topic={view.events} column={view.history?.key ?? view.key} id={id} />
        )}
        <p class={s.foot}>
          <CopyButton text={() => JSON.stringify(row)} label="Copy as JSON" />
        </p>
      </div>
    </aside>
  );
}
