import { useEffect, useState } from "preact/hooks";
import type { TableFeed } from "../data/feed";
import { age, cell, clock } from "../data/format";
import { useStore, useTable } from "../data/hooks";
import { numeric, text } from "../data/row";
import { editing, select } from "../shell/selection";
import { CopyButton } from "../ui/Copy";
import controls from "../ui/controls.module.css";
import type { ControlTableInfo, MapView, VisitHistory, ZoneLayer } from "../wire";
import type { MapEngine } from "./engine";
import s from "./Panel.module.css";
import { PanelHead } from "./PanelHead";
import { equals, visitColumns, visits } from "./visits";
import { ZoneEditor } from "./ZoneEditor";
import { contains, type Zone } from "./zones";

const VISITS = 200;
const LISTED = 50;

function VehicleLink({ view, id }: { view: MapView; id: string }) {
  return (
    <button
      type="button"
      class={s.link}
      onClick={() => select({ what: "vehicle", view: view.name, key: id }, true)}
    >
      {id}
    </button>
  );
}

/** Who is inside and who was, from the app's table of visits. */
function Visitors({ view, history, zone }: { view: MapView; history: VisitHistory; zone: Zone }) {
  const store = useStore();
  const declared = store.app.tables[history.table]?.columns ?? [];
  const columns = visitColumns(history, declared, view.zones?.key ?? null);
  const where = columns.zone ? equals(columns.zone, zone.key, declared) : null;
  const feed = useTable(history.table, { where, limit: VISITS });
  feed.revision.value;
  const found = visits(feed.rows.values(), columns, store.eventNow.value);
  const inside = found.filter((visit) => visit.exit === null);
  const past = found.filter((visit) => visit.exit !== null);
  return (
    <>
      <section>
        <h4>Inside now: {inside.length}</h4>
        {feed.error.value && <p class={s.none}>{feed.error.value.message}</p>}
        <ul class={s.rows}>
          {inside.slice(0, LISTED).map(({ row, enter, dwell }) => (
            <li key={`${text(row, history.key)}/${enter}`}>
              <VehicleLink view={view} id={text(row, history.key)} />
              <span>since {clock(enter)}</span>
              <b>{age(dwell)}</b>
            </li>
          ))}
        </ul>
      </section>
      <section>
        <h4>Visits before</h4>
        {past.length === 0 && <p class={s.none}>None so far.</p>}
        <ul class={s.rows}>
          {past.slice(0, LISTED).map(({ row, enter, exit, dwell }) => (
            <li key={`${text(row, history.key)}/${enter}`}>
              <VehicleLink view={view} id={text(row, history.key)} />
              <span>
                {clock(enter)}–{exit === null ? "now" : clock(exit)}
              </span>
              <b>{age(dwell)}</b>
            </li>
          ))}
        </ul>
      </section>
    </>
  );
}

/** Who is inside by the last positions, where the app keeps no visits. */
function InsideByPosition({
  view,
  zone,
  status,
}: {
  view: MapView;
  zone: Zone;
  status: TableFeed;
}) {
  status.revision.value;
  const inside = [...status.rows].filter(([, row]) => {
    const [lon, lat] = [numeric(row, view.lon), numeric(row, view.lat)];
    return lon !== null && lat !== null && contains(zone, lon, lat);
  });
  return (
    <section>
      <h4>Inside now: {inside.length}</h4>
      <ul class={s.rows}>
        {inside.slice(0, LISTED).map(([key]) => (
          <li key={key}>
            <VehicleLink view={view} id={key} />
          </li>
        ))}
      </ul>
    </section>
  );
}

interface PanelProps {
  view: MapView;
  layer: ZoneLayer;
  engine: MapEngine;
  zone: Zone | null;
  isNew: boolean;
  info: ControlTableInfo | null;
  status: TableFeed;
  moved: number;
}

export function ZonePanel({ view, layer, engine, zone, isNew, info, status, moved }: PanelProps) {
  const [changing, setChanging] = useState(isNew);
  useEffect(() => {
    editing.value = changing;
    return () => {
      editing.value = false;
    };
  }, [changing]);
  if (changing && info) {
    return (
      <ZoneEditor
        layer={layer}
        engine={engine}
        zone={zone}
        info={info}
        moved={moved}
        onDone={(key) => {
          editing.value = false;
          setChanging(false);
          if (key === null) select(null);
          else select({ what: "zone", view: view.name, key });
        }}
      />
    );
  }
  if (!zone) {
    return (
      <aside class={s.panel} aria-label="Zone">
        <PanelHead title="Zone" kind="" />
        <p class={s.none}>This zone is not there any more.</p>
      </aside>
    );
  }
  const hidden = new Set([layer.geometry, layer.label, "version"]);
  const columns = info?.columns ?? [];
  const types = new Map(columns.map((column) => [column.name, column.type]));
  return (
    <aside class={s.panel} aria-label={`Zone ${zone.label}`}>
      <PanelHead title={zone.label} kind={zone.kind} />
      <div class={s.scroll}>
        <dl class={s.facts}>
          {Object.entries(zone.row)
            .filter(([name, value]) => !hidden.has(name) && value !== null)
            .map(([name, value]) => (
              <>
                <dt>{name}</dt>
                <dd>{cell(value, types.get(name) ?? "")}</dd>
              </>
            ))}
        </dl>
        {view.history ? (
          <Visitors view={view} history={view.history} zone={zone} />
        ) : (
          <InsideByPosition view={view} zone={zone} status={status} />
        )}
        <p class={s.foot}>
          {info && (
            <button type="button" class={controls.small} onClick={() => setChanging(true)}>
              Edit zone
            </button>
          )}
          <button type="button" class={controls.small} onClick={() => engine.fit(zone.bounds)}>
            Show whole
          </button>
          <CopyButton text={() => JSON.stringify(zone.row)} label="Copy as JSON" />
        </p>
      </div>
    </aside>
  );
}
