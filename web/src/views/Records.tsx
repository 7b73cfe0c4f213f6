import { useMemo, useState } from "preact/hooks";
import { cell, plural } from "../data/format";
import { useStore, useTable } from "../data/hooks";
import { FieldInput } from "../form/FieldInput";
import { fieldsOf, readField, shown } from "../form/fields";
import f from "../form/form.module.css";
import { type Origin, Outcome, useSaving, versionOf } from "../form/saving";
import controls from "../ui/controls.module.css";
import { Empty } from "../ui/Empty";
import { ViewFrame } from "../ui/ViewFrame";
import type { ControlTableInfo, RecordsView, Row, Value } from "../wire";
import s from "./Records.module.css";

interface EditorProps {
  view: RecordsView;
  info: ControlTableInfo;
  /** The row as it is stored now; null for a new one. */
  row: Row | null;
  onDone: () => void;
}

function RecordEditor({ view, info, row, onDone }: EditorProps) {
  const fields = useMemo(() => fieldsOf(info.json_schema, new Set(["version"])), [info]);
  const originOf = (from: Row | null): Origin | null =>
    from && { key: from[info.key] as string, row: from };
  const textsOf = (from: Row | null): Record<string, string> =>
    Object.fromEntries(
      fields.map((field) => [field.name, shown(from ? from[field.name] : field.fallback)]),
    );
  const [origin, setOrigin] = useState(() => originOf(row));
  const [texts, setTexts] = useState(() => textsOf(row));
  const [dirty, setDirty] = useState(false);
  const saving = useSaving(view.control_table, onDone);
  const reads = fields.map((field) => ({ field, read: readField(field, texts[field.name] ?? "") }));
  const wrong = reads.some(({ read }) => "problem" in read);
  const version = versionOf(origin?.row);
  const name = origin ? String(origin.key) : "";

  const save = (over: number | null) => {
    const values: Record<string, Value> = {};
    for (const { field, read } of reads) {
      // What was left empty is left out, so that the table's own default counts.
      const empty = (texts[field.name] ?? "").trim() === "" && field.kind !== "boolean";
      if ("value" in read && !(empty && !field.required)) values[field.name] = read.value;
    }
    void saving.save(origin, values, over);
  };
  const takeTheirs = () => {
    setOrigin(originOf(row));
    setTexts(textsOf(row));
    setDirty(false);
    saving.reset();
  };
  return (
    <form
      class={s.editor}
      aria-label={origin ? `Edit ${name}` : `New row of ${view.title}`}
      onSubmit={(event) => {
        event.preventDefault();
        if (!wrong) save(version);
      }}
    >
      <h3>{origin ? name : "New"}</h3>
      <div class={s.fields}>
        {reads.map(({ field, read }) => (
          <FieldInput
            key={field.name}
            field={field}
            text={texts[field.name] ?? ""}
            problem={dirty && "problem" in read ? read.problem : null}
            disabled={origin !== null && field.name === info.key}
            onText={(value) => {
              setDirty(true);
              saving.reset();
              setTexts((before) => ({ ...before, [field.name]: value }));
            }}
          />
        ))}
      </div>
      <Outcome
        what="row"
        state={saving.state}
        mine={version}
        theirs={versionOf(row)}
        onTheirs={takeTheirs}
        onMine={save}
      />
      <p class={f.foot}>
        <button
          type="submit"
          class={`${controls.button} ${controls.primary}`}
          disabled={!dirty || wrong || saving.saving}
        >
          {saving.saving ? "Saving …" : "Save"}
        </button>
        <button type="button" class={controls.button} onClick={onDone}>
          Cancel
        </button>
        {origin && (
          <button
            type="button"
            class={controls.button}
            onClick={() => {
              if (confirm(`Delete ${name}? It counts from the next row on.`)) {
                void saving.remove(origin);
              }
            }}
          >
            Delete
          </button>
        )}
      </p>
    </form>
  );
}

/** The rows of a control table, to be read, changed, added and deleted. */
export function RecordsPanel({ view }: { view: RecordsView }) {
  const { app } = useStore();
  const feed = useTable(view.control_table);
  const [open, setOpen] = useState<string | null>(null);
  const [adding, setAdding] = useState(false);
  const info = app.control_tables[view.control_table];
  const revision = feed.revision.value;
  const rows = useMemo(
    () => [...feed.rows].sort(([one], [other]) => (one < other ? -1 : 1)),
    [feed, revision],
  );
  if (!info) return null;
  const types = new Map(info.columns.map((column) => [column.name, column.type]));
  const columns = [...(view.columns ?? types.keys()), "version"];
  const close = () => {
    setOpen(null);
    setAdding(false);
  };
  return (
    <ViewFrame
      id={view.name}
      title={view.title}
      note={plural(rows.length, "row")}
      heardAt={feed.heardAt}
      actions={
        <button
          type="button"
          class={controls.small}
          disabled={adding}
          onClick={() => {
            setOpen(null);
            setAdding(true);
          }}
        >
          Add
        </button>
      }
    >
      <div class={s.split}>
        <div class={s.box}>
          {rows.length === 0 && (
            <Empty what={`No row of ${view.control_table} yet: Add makes one.`} topic={null} />
          )}
          {rows.length > 0 && (
            <table class={s.rows}>
              <thead>
                <tr>
                  {columns.map((column) => (
                    <th key={column} scope="col">
                      {column}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {rows.map(([key, row]) => (
                  <tr key={key} aria-current={key === open ? "true" : undefined}>
                    {columns.map((column, index) => {
                      const text = cell(row[column], types.get(column) ?? "");
                      return (
                        <td key={column} title={text}>
                          {index > 0 ? (
                            text
                          ) : (
                            <button
                              type="button"
                              class={s.open}
                              onClick={() => {
                                setAdding(false);
                                setOpen(key);
                              }}
                            >
                              {text}
                            </button>
                          )}
                        </td>
                      );
                    })}
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </div>
        {(adding || open !== null) && (
          <RecordEditor
            key={open ?? ""}
            view={view}
            info={info}
            row={open === null ? null : (feed.rows.get(open) ?? null)}
            onDone={close}
          />
        )}
      </div>
    </ViewFrame>
  );
}
