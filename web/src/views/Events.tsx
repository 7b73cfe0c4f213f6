import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Entry } from "../data/feed";
import { cell, clock, dateTime, plural } from "../data/format";
import { useStore, useTopic } from "../data/hooks";
import { sentence, text } from "../data/row";
import { select } from "../shell/selection";
import { CopyButton } from "../ui/Copy";
import controls from "../ui/controls.module.css";
import { Empty } from "../ui/Empty";
import { SEVERITIES, type Severity, SeverityMark, severityOf } from "../ui/severity";
import { ViewFrame } from "../ui/ViewFrame";
import type { AppInfo, EventsView, Row } from "../wire";
import s from "./Events.module.css";
import { memo } from "./memo";

/** Vehicles and zones that a row names, so that the map can show them. */
export function mentions(app: AppInfo, row: Row): { label: string; go: () => void }[] {
  const found: { label: string; go: () => void }[] = [];
  for (const view of app.views) {
    if (view.kind !== "map") continue;
    const vehicle = text(row, view.key);
    if (vehicle) {
      found.push({
        label: vehicle,
        go: () => select({ what: "vehicle", view: view.name, key: vehicle }, true),
      });
    }
    const zone = view.zones ? text(row, view.zones.key) : "";
    if (zone)
      found.push({
        label: zone,
        go: () => select({ what: "zone", view: view.name, key: zone }, true),
      });
  }
  return found;
}

interface ItemProps {
  entry: Entry;
  view: EventsView;
  open: boolean;
  fresh: boolean;
  toggle: (id: number) => void;
}

const Item = memo(function Item({ entry, view, open, fresh, toggle }: ItemProps) {
  const { app } = useStore();
  const { row } = entry;
  const types = new Map(
    app.topics[view.topic]?.columns.map((column) => [column.name, column.type]),
  );
  const at = Date.parse(text(row, view.time));
  const severity = severityOf(text(row, view.severity));
  const extra = (view.columns ?? []).filter(
    (name) => name !== view.time && name !== view.text && name !== view.severity,
  );
  return (
    <li class={`${s.item} ${fresh ? s.fresh : ""}`}>
      <button type="button" class={s.line} aria-expanded={open} onClick={() => toggle(entry.id)}>
        {view.severity && (
          <span class={s.severity}>
            <SeverityMark severity={severity} />
            {text(row, view.severity) || "info"}
          </span>
        )}
        <time dateTime={text(row, view.time)} title={`${dateTime(at)} UTC`}>
          {clock(at)}
        </time>
        <span class={s.text}>{sentence(row, view.text) || "(no text)"}</span>
        {extra.length > 0 && (
          <span class={s.extra}>
            {extra.map((name) => cell(row[name], types.get(name) ?? "")).join(" · ")}
          </span>
        )}
      </button>
      {open && (
        <div class={s.detail}>
          <dl>
            {Object.entries(row).map(([name, value]) => (
              <>
                <dt>{name}</dt>
                <dd>{cell(value, types.get(name) ?? "")}</dd>
              </>
            ))}
          </dl>
          <p>
            {mentions(app, row).map(({ label, go }) => (
              <button key={label} type="button" class={controls.small} onClick={go}>
                Show {label}
              </button>
            ))}
            <CopyButton text={() => JSON.stringify(row)} label="Copy JSON" />
          </p>
        </div>
      )}
    </li>
  );
});

function SeverityFilter({
  hidden,
  flip,
}: {
  hidden: Set<Severity>;
  flip: (severity: Severity) => void;
}) {
  return (
    <>
      {[...SEVERITIES].reverse().map((severity) => (
        <button
          key={severity}
          type="button"
          class={s.filter}
          aria-pressed={!hidden.has(severity)}
          aria-label={`Show ${severity}`}
          title={`${hidden.has(severity) ? "Show" : "Hide"} ${severity}`}
          onClick={() => flip(severity)}
        >
          <SeverityMark severity={severity} size={11} />
        </button>
      ))}
    </>
  );
}

export function EventsPanel({ view }: { view: EventsView }) {
  const feed = useTopic(view.topic, { limit: view.limit });
  feed.revision.value;
  const list = useRef<HTMLOListElement>(null);
  const [reading, setReading] = useState(false);
  const [scrolled, setScrolled] = useState(false);
  const [open, setOpen] = useState<number | null>(null);
  const [hidden, setHidden] = useState(new Set<Severity>());
  const held = useMemo(() => ({ entries: feed.entries, newest: 0 }), [feed]);

  const holding = reading || scrolled || open !== null;
  if (!holding) held.entries = feed.entries;
  const shownTo = held.entries.at(-1)?.id ?? 0;
  const behind = feed.entries.filter((entry) => entry.id > shownTo).length;
  const shown = held.entries
    .filter(({ row }) => !hidden.size || !hidden.has(severityOf(text(row, view.severity))))
    .reverse();

  // Rows that were there when the view opened are not news.
  const known = useMemo(() => ({ id: null as number | null }), [feed]);
  if (known.id === null && feed.revision.peek() > 0) known.id = shownTo;
  useEffect(() => {
    held.newest = shownTo;
  });

  const toggle = useMemo(() => (id: number) => setOpen((now) => (now === id ? null : id)), []);
  const flip = (severity: Severity) => {
    const next = new Set(hidden);
    if (!next.delete(severity)) next.add(severity);
    setHidden(next);
  };
  const catchUp = () => {
    setOpen(null);
    setScrolled(false);
    setReading(false);
    list.current?.scrollTo({ top: 0 });
  };
  return (
    <ViewFrame
      id={view.name}
      title={view.title}
      heardAt={feed.heardAt}
      dropped={feed.dropped}
      actions={view.severity && <SeverityFilter hidden={hidden} flip={flip} />}
    >
      <div class={s.wrap}>
        {behind > 0 && (
          <button type="button" class={s.more} onClick={catchUp}>
            {plural(behind, "newer row")} ↑
          </button>
        )}
        {feed.entries.length === 0 ? (
          <Empty
            what={`${view.title} appear here as they happen, newest first.`}
            topic={view.topic}
          />
        ) : (
          <ol
            ref={list}
            class={s.list}
            aria-label={`${view.title}, newest first`}
            onMouseEnter={() => setReading(true)}
            onMouseLeave={() => setReading(false)}
            onScroll={(event) => setScrolled(event.currentTarget.scrollTop > 4)}
          >
            {shown.map((entry) => (
              <Item
                key={entry.id}
                entry={entry}
                view={view}
                open={open === entry.id}
                fresh={known.id !== null && entry.id > known.id && entry.id > held.newest}
                toggle={toggle}
              />
            ))}
          </ol>
        )}
      </div>
    </ViewFrame>
  );
}
