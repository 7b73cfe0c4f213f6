import { useEffect, useMemo, useState } from "preact/hooks";
import { number } from "../data/format";
import { text } from "../data/row";
import { FieldInput } from "../form/FieldInput";
import { type Field, fieldsOf, readField, shown } from "../form/fields";
import f from "../form/form.module.css";
import { adjusted, began, changed, type History, redone, undone } from "../form/history";
import { Outcome, useSaving, versionOf } from "../form/saving";
import controls from "../ui/controls.module.css";
import type { ControlTableInfo, JsonSchema, Row, Value, ZoneLayer } from "../wire";
import { DOTS_UP_TO, EditLayer } from "./EditLayer";
import type { MapEngine } from "./engine";
import s from "./Panel.module.css";
import { PanelHead } from "./PanelHead";
import {
  areaFrom,
  corners,
  cornersText,
  problemOf,
  type Shape,
  shapeOf,
  withCornersText,
} from "./shape";
import { centerOf, circle, RADIUS, type Zone } from "./zones";

interface Draft {
  shape: Shape;
  texts: Readonly<Record<string, string>>;
}

/** A circle's only corner is its middle. */
function cornersOf(zone: Zone, layer: ZoneLayer): Shape {
  const center = centerOf(zone.row[layer.geometry]);
  return center ? [[[center]]] : shapeOf(zone.geometry);
}

function draftOf(zone: Zone | null, layer: ZoneLayer, fields: readonly Field[]): Draft {
  const value = (field: Field) => (zone ? zone.row[field.name] : field.fallback);
  return {
    shape: zone ? cornersOf(zone, layer) : [],
    texts: Object.fromEntries(fields.map((field) => [field.name, shown(value(field))])),
  };
}

/** Whether the gateway takes the geometry as JSON text instead of JSON. */
function geometryIsText(schema: JsonSchema, layer: ZoneLayer): boolean {
  return schema.properties?.[layer.geometry]?.type === "string";
}

interface EditorProps {
  layer: ZoneLayer;
  engine: MapEngine;
  zone: Zone | null;
  info: ControlTableInfo;
  /** Grows with the camera, so that the outline follows it. */
  moved: number;
  onDone: (key: string | null) => void;
}

export function ZoneEditor({ layer, engine, zone, info, onDone }: EditorProps) {
  const schema = info.json_schema;
  const fields = useMemo(
    () => fieldsOf(schema, new Set([layer.geometry, "version"])),
    [schema, layer],
  );
  // What the edit began from; what arrives meanwhile shows as a conflict when saving.
  const [origin, setOrigin] = useState(zone);
  const [history, setHistory] = useState<History<Draft>>(() => began(draftOf(zone, layer, fields)));
  const [drawing, setDrawing] = useState(zone === null);
  const { shape, texts } = history.now;
  const version = versionOf(origin?.row);

  const reads = fields.map((field) => ({ field, read: readField(field, texts[field.name] ?? "") }));
  const round = origin !== null && centerOf(origin.row[layer.geometry]) !== null;
  const middle = round ? (shape[0]?.[0]?.[0] ?? null) : null;
  const radius = Number(texts[RADIUS]);
  const shapeProblem = round ? null : problemOf(shape);
  const wrong = reads.filter(({ read }) => "problem" in read);
  const dirty = history.past.length > 0;
  const set = (now: Draft) => {
    saving.reset();
    setHistory((before) => changed(before, now));
  };

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
      if (event.target instanceof HTMLElement && /^(input|textarea)$/i.test(event.target.tagName))
        return;
      event.preventDefault();
      setHistory(event.shiftKey ? redone : undone);
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);

  const row = (): Row => {
    const values: Record<string, Value> = {};
    for (const { field, read } of reads) if ("value" in read) values[field.name] = read.value;
    const area = middle ? { type: "Point", coordinates: middle } : areaFrom(shape);
    const geometry = geometryIsText(schema, layer)
      ? JSON.stringify(area)
      : (area as unknown as Value);
    return { ...values, [layer.geometry]: geometry };
  };
  const saving = useSaving(layer.control_table, (saved) => onDone(saved && text(saved, layer.key)));
  const save = (over: number | null) => void saving.save(origin, row(), over);
  const remove = () => {
    if (!origin || !confirm(`Delete zone ${origin.label}? Vehicles inside count as having left.`))
      return;
    void saving.remove(origin);
  };
  const takeTheirs = () => {
    if (!zone) return onDone(null);
    setOrigin(zone);
    setHistory(began(draftOf(zone, layer, fields)));
    saving.reset();
  };
  const title = origin ? `Edit ${origin.label}` : "New zone";
  return (
    <>
      <EditLayer
        engine={engine}
        shape={shape}
        outline={
          middle && radius > 0 ? shapeOf(circle(middle[0] ?? 0, middle[1] ?? 0, radius)) : shape
        }
        drawing={drawing}
        onChange={(next) => set({ shape: next, texts })}
        onDrag={(next) => setHistory((before) => adjusted(before, { shape: next, texts }))}
        onFinish={() => setDrawing(false)}
      />
      <aside class={s.panel} aria-label={title}>
        <PanelHead title={title} kind="" onClose={() => onDone(origin?.key ?? null)} />
        <form
          class={s.scroll}
          onSubmit={(event) => {
            event.preventDefault();
            if (!shapeProblem && wrong.length === 0) save(version);
          }}
        >
          <p class={s.none}>
            {round
              ? "Drag the middle; the radius is below."
              : drawing
                ? "Click on the map for each corner; double-click to finish."
                : corners(shape) > DOTS_UP_TO
                  ? `${number(corners(shape))} corners are too many to drag; change them as text.`
                  : "Drag corners; press a dot between two for a new one; double-click a corner to take it away."}
          </p>
          <p class={s.foot}>
            <button
              type="button"
              class={controls.small}
              disabled={!dirty}
              onClick={() => setHistory(undone)}
              title="Ctrl+Z"
            >
              Undo
            </button>
            <button
              type="button"
              class={controls.small}
              disabled={history.future.length === 0}
              onClick={() => setHistory(redone)}
              title="Ctrl+Shift+Z"
            >
              Redo
            </button>
            {drawing && (
              <button type="button" class={controls.small} onClick={() => setDrawing(false)}>
                Finish outline
              </button>
            )}
          </p>
          <div class={s.form}>
            {reads.map(({ field, read }) => (
              <FieldInput
                key={field.name}
                field={field}
                text={texts[field.name] ?? ""}
                problem={dirty && "problem" in read ? read.problem : null}
                disabled={origin !== null && field.name === layer.key}
                suggestions={field.name === layer.kind ? [...engine.styles.keys()] : []}
                onText={(value) => set({ shape, texts: { ...texts, [field.name]: value } })}
              />
            ))}
          </div>
          <details hidden={round}>
            <summary>Corners as text</summary>
            <textarea
              class={controls.input}
              rows={6}
              spellcheck={false}
              aria-label="Corners of the outer ring, one longitude and latitude a line"
              value={cornersText(shape)}
              onChange={(event) => {
                setDrawing(false);
                set({ shape: withCornersText(shape, event.currentTarget.value), texts });
              }}
            />
          </details>
          {dirty && shapeProblem && (
            <p class={`${f.said} ${f.bad}`} role="alert">
              {shapeProblem}.
            </p>
          )}
          <Outcome
            what="zone"
            state={saving.state}
            mine={version}
            theirs={versionOf(zone?.row)}
            onTheirs={takeTheirs}
            onMine={save}
          />
          <p class={s.foot}>
            <button
              type="submit"
              class={`${controls.button} ${controls.primary}`}
              disabled={!dirty || shapeProblem !== null || wrong.length > 0 || saving.saving}
            >
              {saving.saving ? "Saving …" : "Save"}
            </button>
            <button
              type="button"
              class={controls.button}
              onClick={() => onDone(origin?.key ?? null)}
            >
              Cancel
            </button>
            {origin && (
              <button type="button" class={controls.button} onClick={remove}>
                Delete
              </button>
            )}
          </p>
        </form>
      </aside>
    </>
  );
}
