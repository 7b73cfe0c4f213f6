import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { TableFeed, TopicFeed } from "../data/feed";
import { cell, isNumber, isTime, plural } from "../data/format";
import { useStore, useTable, useTopic } from "../data/hooks";
import { CopyButton } from "../ui/Copy";
import controls from "../ui/controls.module.css";
import { Empty } from "../ui/Empty";
import { ViewFrame } from "../ui/ViewFrame";
import type { Column, Row, TableView } from "../wire";
import s from "./Table.module.css";
import { csv, type Sort, sorted, visible } from "./tableRows";

const ROW_HEIGHT = 25;
const TOPIC_ROWS = 2_000;

interface GridProps {
  view: TableView;
  feed: TopicFeed | TableFeed;
  rows: Row[];
  declared: Column[];
  where: string;
  filter: (where: string) => void;
}

const COPY_PX = 52;
const GAP_PX = 10;

/** Least width in px and share of what is left over. */
function width(column: Column): [number, number] {
  if (isTime(column.type)) return [148, 1];
  if (isNumber(column.type)) return [84, 1];
  return [104, 1.5];
}

/** An example that works for this table. */
function example(columns: readonly Column[]): string {
  const measured = columns.find((column) => isNumber(column.type));
  if (measured) return `${measured.name} > 100`;
  return columns[0] ? `${columns[0].name} = 'a'` : "a > 1";
}

function Filter({
  where,
  filter,
  error,
  hint,
}: {
  where: string;
  filter: (where: string) => void;
  error: string | null;
  hint: string;
}) {
  return (
    <form
      class={s.filter}
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        filter(String(new FormData(event.currentTarget).get("where") ?? "").trim());
      }}
    >
      <input
        class={controls.input}
        name="where"
        type="search"
        defaultValue={where}
        aria-label="Filter: an SQL condition"
        aria-invalid={error !== null}
        placeholder={`filter, e.g. ${hint}`}
        spellcheck={false}
        autocomplete="off"
        onInput={(event) => {
          if (event.currentTarget.value === "" && where !== "") filter("");
        }}
      />
    </form>
  );
}

function download(name: string, columns: Column[], rows: Row[]): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv(columns, rows)], { type: "text/csv" }));
  link.download = `${name}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1_000);
}

function Grid({ view, feed, rows, declared, where, filter }: GridProps) {
  const [sort, setSort] = useState<Sort | null>(null);
  const [at, setAt] = useState(0);
  const [scroll, setScroll] = useState({ top: 0, height: 300 });
  const box = useRef<HTMLDivElement>(null);
  const columns = useMemo(() => {
    if (!view.columns) return declared;
    const byName = new Map(declared.map((column) => [column.name, column]));
    return view.columns.map((name) => byName.get(name) ?? { name, type: "" });
  }, [view, declared]);
  const ordered = sorted(rows, sort);
  const { from, to } = visible(scroll.top, scroll.height, ROW_HEIGHT, ordered.length);
  const widths = columns.map(width);
  const template = `${widths.map(([least, share]) => `minmax(${least}px, ${share}fr)`).join(" ")} ${COPY_PX}px`;
  const least = widths.reduce((sum, [px]) => sum + px + GAP_PX, COPY_PX + 2 * GAP_PX);
  const line = { gridTemplateColumns: template, minWidth: `${least}px` };
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const sized = new ResizeObserver(() =>
      setScroll({ top: element.scrollTop, height: element.clientHeight }),
    );
    sized.observe(element);
    return () => sized.disconnect();
  }, []);

  const error = feed.error.value;
  const cycle = (column: string) =>
    setSort((now) =>
      now?.column !== column
        ? { column, descending: false }
        : now.descending
          ? null
          : { column, descending: true },
    );
  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(ordered.length - 1, at + step));
    setAt(next);
    const element = box.current;
    if (!element) return;
    const top = next * ROW_HEIGHT;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + 2 * ROW_HEIGHT > element.scrollTop + element.clientHeight) {
      element.scrollTop = top + 2 * ROW_HEIGHT - element.clientHeight;
    }
    requestAnimationFrame(() =>
      element.querySelector<HTMLElement>(`[data-row="${next}"]`)?.focus(),
    );
  };
  return (
    <ViewFrame
      id={view.name}
      title={view.title}
      note={plural(ordered.length, "row")}
      heardAt={feed.heardAt}
      dropped={feed.dropped}
      actions={
        <>
          <Filter
            where={where}
            filter={filter}
            error={error?.message ?? null}
            hint={example(columns)}
          />
          <button
            type="button"
            class={controls.small}
            disabled={ordered.length === 0}
            onClick={() => download(view.name, columns, ordered)}
          >
            CSV
          </button>
        </>
      }
    >
      {error && (
        <p class={s.error} role="alert">
          {error.message} {error.hint}
        </p>
      )}
      <div
        ref={box}
        class={s.box}
        role="table"
        aria-label={view.title}
        aria-rowcount={ordered.length + 1}
        onScroll={(event) =>
          setScroll({
            top: event.currentTarget.scrollTop,
            height: event.currentTarget.clientHeight,
          })
        }
        onKeyDown={onKeyDown}
      >
        <div class={s.head} role="row" aria-rowindex={1} style={line}>
          {columns.map((column) => {
            const direction =
              sort?.column !== column.name ? "none" : sort.descending ? "descending" : "ascending";
            return (
              <div
                key={column.name}
                role="columnheader"
                aria-sort={direction}
                class={isNumber(column.type) ? s.number : undefined}
              >
                <button
                  type="button"
                  onClick={() => cycle(column.name)}
                  title={`${column.name}: ${column.type}`}
                >
                  {column.name}
                  <span aria-hidden="true">
                    {{ none: "", ascending: " ↑", descending: " ↓" }[direction]}
                  </span>
                </button>
              </div>
            );
          })}
          <div role="columnheader" aria-label="Copy" />
        </div>
        <div
          class={s.rows}
          role="rowgroup"
          style={{ height: `${ordered.length * ROW_HEIGHT}px`, minWidth: `${least}px` }}
        >
          {ordered.slice(from, to).map((row, offset) => {
            const index = from + offset;
            return (
              <div
                key={index}
                class={s.row}
                role="row"
                aria-rowindex={index + 2}
                data-row={index}
                tabIndex={index === Math.min(at, ordered.length - 1) ? 0 : -1}
                style={{
                  ...line,
                  transform: `translateY(${index * ROW_HEIGHT}px)`,
                }}
                onFocus={() => setAt(index)}
              >
                {columns.map((column) => (
                  <div
                    key={column.name}
                    role="cell"
                    class={isNumber(column.type) ? s.number : undefined}
                  >
                    {cell(row[column.name], column.type)}
                  </div>
                ))}
                <div role="cell" class={s.copy}>
                  <CopyButton text={() => JSON.stringify(row)} label="JSON" />
                </div>
              </div>
            );
          })}
        </div>
        {ordered.length === 0 && !error && (
          <Empty
            what={
              where
                ? `No row matches ${where}.`
                : `Rows of ${view.topic ?? view.table} appear here as they come.`
            }
            topic={view.topic ?? null}
          />
        )}
      </div>
    </ViewFrame>
  );
}

interface SourceProps {
  view: TableView;
  name: string;
  where: string;
  filter: (where: string) => void;
}

function OfTopic({ view, name, where, filter }: SourceProps) {
  const { app } = useStore();
  const feed = useTopic(name, { where: where || null, limit: TOPIC_ROWS });
  const revision = feed.revision.value;
  const rows = useMemo(() => feed.entries.map((entry) => entry.row).reverse(), [feed, revision]);
  const declared = app.topics[name]?.columns ?? feed.columns.value;
  return (
    <Grid view={view} feed={feed} rows={rows} declared={declared} where={where} filter={filter} />
  );
}

function OfTable({ view, name, where, filter }: SourceProps) {
  const { app } = useStore();
  const feed = useTable(name, { where: where || null });
  const revision = feed.revision.value;
  const rows = useMemo(() => [...feed.rows.values()], [feed, revision]);
  const declared = (app.tables[name] ?? app.control_tables[name])?.columns ?? feed.columns.value;
  return (
    <Grid view={view} feed={feed} rows={rows} declared={declared} where={where} filter={filter} />
  );
}

export function TablePanel({ view }: { view: TableView }) {
  const [where, filter] = useState("");
  if (view.table) return <OfTable view={view} name={view.table} where={where} filter={filter} />;
  return <OfTopic view={view} name={view.topic ?? ""} where={where} filter={filter} />;
}
