import type { Position } from "geojson";
import { useRef } from "preact/hooks";
import type { MapEngine } from "./engine";
import { type Camera, fromScreen, near, screenX, screenY, toX, toY } from "./mercator";
import s from "./Panel.module.css";
import { addCorner, type Corner, corners, moveCorner, removeCorner, type Shape } from "./shape";

/** Above this many corners dots would cover the map; the corners are then changed as text. */
export const DOTS_UP_TO = 400;
const NUDGE_PX = 2;

interface LayerProps {
  engine: MapEngine;
  shape: Shape;
  /** What the corners stand for, if it is not their outline: a circle around its middle. */
  outline: Shape;
  /** A click on the map adds a corner at the end. */
  drawing: boolean;
  /** A step that can be undone; a drag is one step, which `onDrag` then carries on. */
  onChange: (shape: Shape) => void;
  onDrag: (shape: Shape) => void;
  onFinish: () => void;
}

function placer(camera: Camera, ring: Position[]): (corner: Position) => [number, number] {
  // All corners of a ring go to the same copy of the world.
  const first = toX(ring[0]?.[0] ?? 0);
  const shift = near(first, camera.x) - first;
  return ([lon = 0, lat = 0]) => [
    camera.width / 2 + (toX(lon) + shift - camera.x) * camera.world,
    screenY(camera, toY(lat)),
  ];
}

export function EditLayer({
  engine,
  shape,
  outline,
  drawing,
  onChange,
  onDrag,
  onFinish,
}: LayerProps) {
  const layer = useRef<SVGSVGElement>(null);
  const dragged = useRef<{ corner: Corner; moved: boolean } | null>(null);
  const pressed = useRef<[number, number] | null>(null);
  const { camera } = engine;
  if (!camera) return null;
  const at = (event: PointerEvent | MouseEvent): [number, number] => {
    const { left, top } = layer.current?.getBoundingClientRect() ?? { left: 0, top: 0 };
    return [event.clientX - left, event.clientY - top];
  };
  const place = (event: PointerEvent | MouseEvent, beside?: Position): Position => {
    const [lon, lat] = fromScreen(camera, ...at(event));
    const reference = beside?.[0];
    // A zone over the antimeridian goes on beyond 180 degrees instead of jumping to the other side.
    const turns = reference === undefined ? 0 : Math.round((reference - lon) / 360);
    return [lon + 360 * turns, lat];
  };
  const ringAt = (corner: Corner) => shape[corner.polygon]?.[corner.ring] ?? [];
  const drag = (event: PointerEvent) => {
    const held = dragged.current;
    if (!held) return;
    const { corner } = held;
    const next = moveCorner(shape, corner, place(event, ringAt(corner)[corner.index]));
    if (held.moved) onDrag(next);
    else onChange(next);
    held.moved = true;
  };
  const onKey = (event: KeyboardEvent, corner: Corner, position: Position) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[
      event.key
    ];
    if (step) {
      const [x, y] = [
        screenX(camera, toX(position[0] ?? 0)),
        screenY(camera, toY(position[1] ?? 0)),
      ];
      const [dx = 0, dy = 0] = step;
      onChange(
        moveCorner(shape, corner, [...fromScreen(camera, x + dx * NUDGE_PX, y + dy * NUDGE_PX)]),
      );
    } else if (event.key === "Delete" || event.key === "Backspace")
      onChange(removeCorner(shape, corner));
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const dots = corners(shape) <= DOTS_UP_TO;
  const catchesAll = drawing ? "auto" : "none";
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: by keyboard corners are written as text
    <svg
      ref={layer}
      class={s.edit}
      style={{ pointerEvents: catchesAll, cursor: drawing ? "crosshair" : undefined }}
      onPointerDown={(event) => {
        pressed.current = at(event);
      }}
      onPointerMove={drag}
      onPointerUp={() => {
        dragged.current = null;
      }}
      onClick={(event) => {
        const began = pressed.current;
        if (!drawing || event.detail > 1 || event.target !== layer.current || !began) return;
        const ring = shape[0]?.[0] ?? [];
        const corner = place(event, ring[0]);
        onChange(
          ring.length
            ? addCorner(shape, { polygon: 0, ring: 0, index: ring.length }, corner)
            : [[[corner]]],
        );
      }}
      onDblClick={(event) => {
        event.preventDefault();
        if (drawing) onFinish();
      }}
    >
      <title>Corners of the zone</title>
      {outline.map((rings, polygon) => {
        const lines = rings.map((ring) => {
          const put = placer(camera, ring);
          return `M${ring
            .map((corner) =>
              put(corner)
                .map((value) => value.toFixed(1))
                .join(","),
            )
            .join("L")}Z`;
        });
        return (
          <path
            key={`outline-${polygon}`}
            class={s.outline}
            fill-rule="evenodd"
            d={lines.join("")}
          />
        );
      })}
      {dots &&
        shape.map((rings, polygon) =>
          rings.map((ring, ringIndex) => {
            const put = placer(camera, ring);
            return ring.map((position, index) => {
              const corner = { polygon, ring: ringIndex, index };
              const next = ring[(index + 1) % ring.length] ?? position;
              const middle: Position = [
                ((position[0] ?? 0) + (next[0] ?? 0)) / 2,
                ((position[1] ?? 0) + (next[1] ?? 0)) / 2,
              ];
              const [x, y] = put(position);
              const [mx, my] = put(middle);
              return (
                <g key={`${polygon}/${ringIndex}/${index}`} style={{ pointerEvents: "auto" }}>
                  {!drawing && ring.length > 2 && (
                    <circle
                      class={s.between}
                      cx={mx}
                      cy={my}
                      r="4.5"
                      onPointerDown={(event) => {
                        event.stopPropagation();
                        onChange(addCorner(shape, { ...corner, index: index + 1 }, middle));
                      }}
                    />
                  )}
                  <circle
                    class={s.corner}
                    cx={x}
                    cy={y}
                    r="6"
                    tabIndex={0}
                    role="button"
                    aria-label={`Corner ${index + 1}: arrows move it, delete removes it`}
                    onPointerDown={(event) => {
                      event.stopPropagation();
                      layer.current?.setPointerCapture(event.pointerId);
                      dragged.current = { corner, moved: false };
                    }}
                    onDblClick={(event) => {
                      event.stopPropagation();
                      if (drawing) onFinish();
                      else onChange(removeCorner(shape, corner));
                    }}
                    onKeyDown={(event) => onKey(event, corner, position)}
                  />
                </g>
              );
            });
          }),
        )}
    </svg>
  );
}
