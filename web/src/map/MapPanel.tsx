import { useRef } from "preact/hooks";
import { number, plural } from "../data/format";
import { useStore, useTable } from "../data/hooks";
import { editing, select, selection } from "../shell/selection";
import { Empty } from "../ui/Empty";
import { ViewFrame } from "../ui/ViewFrame";
import type { MapView } from "../wire";
import type { MapEngine } from "./engine";
import { scaleBar } from "./graticule";
import s from "./Map.module.css";
import { useEngine, useMaybeTable, useZones } from "./useEngine";
import { VehiclePanel } from "./VehiclePanel";
import { ZonePanel } from "./ZonePanel";
import type { KindStyle } from "./zones";

const MOUSE_REACH_PX = 14;
const FINGER_REACH_PX = 24;
const MOVE_PX = 80;

function Legend({ engine }: { engine: MapEngine }) {
  const kinds = [...engine.styles.values()];
  const tints = engine.coloring.entries;
  if (kinds.length + tints.length === 0) return null;
  return (
    <ul class={s.legend} aria-label="Legend">
      {kinds.map(({ kind, slot, dash }: KindStyle) => (
        <li key={kind}>
          <svg width="18" height="12" aria-hidden="true">
            <rect
              x="1.5"
              y="1.5"
              width="15"
              height="9"
              rx="2"
              style={{ stroke: `var(--kind-${slot})`, fill: `var(--kind-${slot})` }}
              stroke-dasharray={dash.map((part) => part * 0.7).join(" ")}
            />
          </svg>
          {kind}
        </li>
      ))}
      {tints.map(({ label, css }) => (
        <li key={label}>
          <i style={{ background: css }} aria-hidden="true" />
          {label}
        </li>
      ))}
    </ul>
  );
}

function Scale({ engine }: { engine: MapEngine }) {
  const { camera } = engine;
  if (!camera) return null;
  const { metres, pixels } = scaleBar(camera, 120);
  const said = metres >= 1_000 ? `${number(metres / 1_000)} km` : `${number(metres)} m`;
  return (
    <div class={s.scale} title="Exact in the middle of the map">
      <span>{said}</span>
      <i style={{ width: `${pixels}px` }} />
    </div>
  );
}

function Tools({ engine, view }: { engine: MapEngine; view: MapView }) {
  return (
    <div class={s.tools}>
      <button type="button" aria-label="Zoom in" onClick={() => engine.zoomBy(1)}>
        +
      </button>
      <button type="button" aria-label="Zoom out" onClick={() => engine.zoomBy(-1)}>
        −
      </button>
      <button
        type="button"
        aria-label="Show all vehicles"
        title="Show all vehicles"
        onClick={() => {
          const bounds = engine.bounds();
          if (bounds) engine.fit(bounds);
        }}
      >
        ⤢
      </button>
      {view.zones && (
        <button
          type="button"
          aria-label="Draw a new zone"
          title="Draw a new zone"
          onClick={() => select({ what: "new-zone", view: view.name })}
        >
          ⬠
        </button>
      )}
    </div>
  );
}

export function MapPanel({ view }: { view: MapView }) {
  const store = useStore();
  const box = useRef<HTMLDivElement>(null);
  const status = useTable(view.table);
  const zoneFeed = useMaybeTable(view.zones?.control_table ?? null);
  const occupancy = useMaybeTable(view.occupancy?.table ?? null);
  const zones = useZones(view, zoneFeed);
  const chosen = selection.value?.view === view.name ? selection.value : null;
  const { engine, moved, plain } = useEngine(box, { view, status, zones, occupancy, chosen });
  const pressed = useRef<[number, number] | null>(null);
  const count = status.rows.size;

  const inhabited = engine?.counts.size ?? 0;
  const summary = [
    `${view.title}: map with ${plural(count, "vehicle")} and ${plural(zones.size, "zone")}`,
    `${inhabited} with somebody inside`,
    "Arrow keys move it, plus and minus zoom; slash searches for a vehicle or zone",
  ].join(". ");

  const at = (event: PointerEvent): [number, number] => {
    const { left, top } = (box.current ?? document.body).getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  const onPointerUp = (event: PointerEvent) => {
    const began = pressed.current;
    pressed.current = null;
    if (!engine || editing.value || !began) return;
    const [x, y] = at(event);
    // The end of a drag is not a click.
    if (Math.hypot(x - began[0], y - began[1]) > 5) return;
    const vehicle = engine.vehicleAt(
      x,
      y,
      event.pointerType === "mouse" ? MOUSE_REACH_PX : FINGER_REACH_PX,
    );
    if (vehicle !== null) return select({ what: "vehicle", view: view.name, key: vehicle });
    const zone = engine.zoneAt(x, y);
    select(zone === null ? null : { what: "zone", view: view.name, key: zone });
  };
  const onPointerMove = (event: PointerEvent) => {
    if (!engine || event.buttons || event.pointerType !== "mouse") return;
    const [x, y] = at(event);
    const vehicle = editing.value ? null : engine.vehicleAt(x, y, MOUSE_REACH_PX);
    engine.hover(vehicle);
    if (box.current) box.current.dataset["pointing"] = String(vehicle !== null);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (!engine || event.target !== event.currentTarget) return;
    const moves: Record<string, () => void> = {
      ArrowLeft: () => engine.moveBy(-MOVE_PX, 0),
      ArrowRight: () => engine.moveBy(MOVE_PX, 0),
      ArrowUp: () => engine.moveBy(0, -MOVE_PX),
      ArrowDown: () => engine.moveBy(0, MOVE_PX),
      "+": () => engine.zoomBy(1),
      "=": () => engine.zoomBy(1),
      "-": () => engine.zoomBy(-1),
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    move();
  };
  return (
    <ViewFrame
      id={view.name}
      title={view.title}
      note={`${plural(count, "vehicle")}${zones.size ? ` · ${plural(zones.size, "zone")}` : ""}`}
      heardAt={status.heardAt}
      dropped={status.dropped}
      actions={
        zones.size > 0 && (
          <span class={s.hint} title={plain ?? ""}>
            {plain ? "plain map (no WebGL)" : ""}
          </span>
        )
      }
    >
      <div class={s.map} data-surface={plain ? "plain" : "webgl"}>
        <div
          ref={box}
          class={s.box}
          role="application"
          // biome-ignore lint/a11y/noNoninteractiveTabindex: the map is moved with the keyboard
          tabIndex={0}
          aria-label={summary}
          onPointerDown={(event) => {
            pressed.current = at(event);
          }}
          onPointerUp={onPointerUp}
          onPointerMove={onPointerMove}
          onPointerLeave={() => engine?.hover(null)}
          onKeyDown={onKeyDown}
        />
        {engine && (
          <>
            <Tools engine={engine} view={view} />
            <Legend key={`legend-${zones.size}-${moved === 0}`} engine={engine} />
            <Scale key="scale" engine={engine} />
            <p class={s.credit}>Coastline: Natural Earth</p>
          </>
        )}
        {engine && count === 0 && zones.size === 0 && (
          <div class={s.empty}>
            <Empty what="Vehicles appear here with their first position." />
          </div>
        )}
        {engine && chosen?.what === "vehicle" && (
          <VehiclePanel
            key={chosen.key}
            view={view}
            engine={engine}
            status={status}
            id={chosen.key}
          />
        )}
        {engine && (chosen?.what === "zone" || chosen?.what === "new-zone") && view.zones && (
          <ZonePanel
            key={chosen.what === "zone" ? chosen.key : ""}
            view={view}
            layer={view.zones}
            engine={engine}
            zone={chosen.what === "zone" ? (zones.get(chosen.key) ?? null) : null}
            isNew={chosen.what === "new-zone"}
            info={store.app.control_tables[view.zones.control_table] ?? null}
            status={status}
            moved={moved}
          />
        )}
      </div>
    </ViewFrame>
  );
}
