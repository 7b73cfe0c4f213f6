import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { number, plural, withUnit } from "../data/format";
import { useTable } from "../data/hooks";
import { color, palette } from "../theme";
import controls from "../ui/controls.module.css";
import { Empty } from "../ui/Empty";
import { ViewFrame } from "../ui/ViewFrame";
import type { VoxelsView } from "../wire";
import { AXES, type Axis, type Cells, cellsOf, inSlice, project, share } from "./cells";
import { SCALE_GRADIENT, scaleColor } from "./scale";
import s from "./Voxels.module.css";

const START = { yaw: 0.6, pitch: 0.5 };
const TURN = 0.01;
const KEY_TURN = 0.15;

/** A canvas that fits its box; `draw` is called when it or the box changes. */
function useCanvas(draw: (ctx: CanvasRenderingContext2D, width: number, height: number) => void) {
  const ref = useRef<HTMLCanvasElement>(null);
  const latest = useRef(draw);
  latest.current = draw;
  const paint = useRef(() => {
    const canvas = ref.current;
    const ctx = canvas?.getContext("2d");
    if (!canvas || !ctx) return;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * devicePixelRatio;
    canvas.height = height * devicePixelRatio;
    ctx.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    latest.current(ctx, width, height);
  }).current;
  useEffect(paint);
  useEffect(() => {
    const sized = new ResizeObserver(paint);
    if (ref.current) sized.observe(ref.current);
    const unwatch = palette.subscribe(paint);
    return () => {
      sized.disconnect();
      unwatch();
    };
  }, []);
  return ref;
}

/** The corners of the space that the voxels take, joined by its twelve edges. */
function drawBox(ctx: CanvasRenderingContext2D, cells: Cells, view: typeof START, size: number) {
  const corner = (bits: number): Cells => {
    const at = AXES.map((axis) =>
      Int32Array.of(bits & (1 << axis) ? cells.high[axis] : cells.low[axis]),
    ) as Cells["at"];
    return { ...cells, at, values: Float64Array.of(0) };
  };
  const places = [...Array(8).keys()].map((bits) => {
    const { x, y } = project(corner(bits), view);
    return [(x[0] ?? 0) * size, (y[0] ?? 0) * size] as const;
  });
  ctx.strokeStyle = color("line");
  ctx.beginPath();
  for (let bits = 0; bits < 8; bits += 1) {
    for (const axis of AXES) {
      const other = bits | (1 << axis);
      const [from, to] = [places[bits], places[other]];
      if (other === bits || !from || !to) continue;
      ctx.moveTo(from[0], from[1]);
      ctx.lineTo(to[0], to[1]);
    }
  }
  ctx.stroke();
}

function Whole({ cells, title }: { cells: Cells; title: string }) {
  const [view, setView] = useState(START);
  const dragged = useRef<{ x: number; y: number } | null>(null);
  const turn = (yaw: number, pitch: number) =>
    setView((now) => ({
      yaw: now.yaw + yaw,
      pitch: Math.max(-Math.PI / 2, Math.min(Math.PI / 2, now.pitch + pitch)),
    }));
  const ref = useCanvas((ctx, width, height) => {
    const span = Math.hypot(...AXES.map((axis) => cells.high[axis] - cells.low[axis] + 1));
    const size = Math.min(width, height) / span;
    const { x, y, order } = project(cells, view);
    ctx.translate(width / 2, height / 2);
    drawBox(ctx, cells, view, size);
    const side = Math.max(1.5, size * 1.15);
    for (const index of order) {
      ctx.fillStyle = scaleColor(share(cells, cells.values[index] ?? 0));
      const [px, py] = [(x[index] ?? 0) * size, (y[index] ?? 0) * size];
      ctx.fillRect(px - side / 2, py - side / 2, side, side);
    }
  });
  return (
    <canvas
      ref={ref}
      class={s.whole}
      role="img"
      tabIndex={0}
      aria-label={`${title}, ${plural(cells.values.length, "voxel")}; arrow keys turn it`}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        dragged.current = { x: event.clientX, y: event.clientY };
      }}
      onPointerMove={(event) => {
        if (!dragged.current) return;
        const { x, y } = dragged.current;
        turn((event.clientX - x) * TURN, (event.clientY - y) * TURN);
        dragged.current = { x: event.clientX, y: event.clientY };
      }}
      onPointerUp={() => {
        dragged.current = null;
      }}
      onKeyDown={(event) => {
        const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[
          event.key
        ];
        if (!by) return;
        event.preventDefault();
        turn((by[0] ?? 0) * KEY_TURN, (by[1] ?? 0) * KEY_TURN);
      }}
    />
  );
}

function Slice({ cells, view }: { cells: Cells; view: VoxelsView }) {
  const [axis, setAxis] = useState<Axis>(2);
  const [chosen, setChosen] = useState<number | null>(null);
  const [over, setOver] = useState<number | null>(null);
  const names = [view.x, view.y, view.z];
  // Until a person chooses, the newest layer is shown: it is the highest.
  const index = Math.max(cells.low[axis], Math.min(cells.high[axis], chosen ?? cells.high[axis]));
  const [across, up] = AXES.filter((other) => other !== axis) as [Axis, Axis];
  const held = inSlice(cells, axis, index);
  const cellSize = (width: number, height: number) => {
    const columns = cells.high[across] - cells.low[across] + 1;
    const rows = cells.high[up] - cells.low[up] + 1;
    return { size: Math.min(width / columns, height / rows), rows };
  };
  const ref = useCanvas((ctx, width, height) => {
    const { size, rows } = cellSize(width, height);
    for (const number of held) {
      ctx.fillStyle = scaleColor(share(cells, cells.values[number] ?? 0));
      const x = ((cells.at[across][number] ?? 0) - cells.low[across]) * size;
      const y = (rows - 1 - ((cells.at[up][number] ?? 0) - cells.low[up])) * size;
      ctx.fillRect(x, y, Math.max(1, size - 0.5), Math.max(1, size - 0.5));
    }
  });
  const find = (event: PointerEvent & { currentTarget: HTMLCanvasElement }) => {
    const { clientWidth, clientHeight } = event.currentTarget;
    const { size, rows } = cellSize(clientWidth, clientHeight);
    const column = cells.low[across] + Math.floor(event.offsetX / size);
    const row = cells.low[up] + rows - 1 - Math.floor(event.offsetY / size);
    const found = held.find((at) => cells.at[across][at] === column && cells.at[up][at] === row);
    setOver(found ?? null);
  };
  const said =
    over === null || over >= cells.values.length
      ? `${plural(held.length, "voxel")} in this slice`
      : `${AXES.map((each) => `${names[each]} ${cells.at[each][over] ?? ""}`).join(", ")}: ${withUnit(cells.values[over] ?? null, view.unit)}`;
  return (
    <div class={s.slice}>
      <p class={s.controls}>
        <select
          class={controls.input}
          aria-label="Axis of the slice"
          value={axis}
          onChange={(event) => {
            setAxis(Number(event.currentTarget.value) as Axis);
            setChosen(null);
          }}
        >
          {AXES.map((each) => (
            <option key={each} value={each}>
              {names[each]}
            </option>
          ))}
        </select>
        <input
          type="range"
          aria-label={`Slice along ${names[axis]}`}
          min={cells.low[axis]}
          max={cells.high[axis]}
          value={index}
          onInput={(event) => setChosen(Number(event.currentTarget.value))}
        />
        <output>{number(index)}</output>
      </p>
      <canvas
        ref={ref}
        role="img"
        aria-label={`Slice at ${names[axis]} ${index}: ${plural(held.length, "voxel")}`}
        onPointerMove={find}
        onPointerLeave={() => setOver(null)}
      />
      <p class={s.said}>{said}</p>
    </div>
  );
}

/** The voxels of a table: all of them from any side, and one slice exactly. */
export function VoxelsPanel({ view }: { view: VoxelsView }) {
  const feed = useTable(view.table, { limit: view.limit });
  const revision = feed.revision.value;
  const cells = useMemo(() => cellsOf(feed.rows.values(), view), [feed, revision, view]);
  const count = cells.values.length;
  return (
    <ViewFrame
      id={view.name}
      title={view.title}
      note={plural(count, "voxel")}
      heardAt={feed.heardAt}
      className={s.frame}
    >
      {count === 0 ? (
        <Empty what={`Voxels of ${view.table} are drawn here once there are any.`} topic={null} />
      ) : (
        <div class={s.inside}>
          <div class={s.both}>
            <Whole cells={cells} title={view.title} />
            <Slice cells={cells} view={view} />
          </div>
          <p class={s.scale}>
            {withUnit(cells.least, view.unit)}
            <i style={{ background: SCALE_GRADIENT }} aria-hidden="true" />
            {withUnit(cells.most, view.unit)}
          </p>
        </div>
      )}
    </ViewFrame>
  );
}
