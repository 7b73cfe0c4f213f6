import { isOpen } from "../data/alerts";
import { number } from "../data/format";
import { useStore, useTable, useTopic } from "../data/hooks";
import { text } from "../data/row";
import { SEVERITIES, type Severity, SeverityMark, severityOf } from "../ui/severity";
import type { AlertsView, EventsView, Row } from "../wire";
import s from "./Alerts.module.css";
import { goTo } from "./keyboard";

interface CountsProps {
  view: AlertsView | EventsView;
  rows: Iterable<Row>;
  severity: string;
  /** What is counted, where that is not everything. */
  among: string;
}

function Counts({ view, rows, severity, among }: CountsProps) {
  const counts = new Map<Severity, number>();
  for (const row of rows) {
    const found = severityOf(text(row, severity));
    counts.set(found, (counts.get(found) ?? 0) + 1);
  }
  const shown = SEVERITIES.filter((each) => counts.get(each)).reverse();
  const said = shown.map((each) => `${counts.get(each)} ${each}`).join(", ") || "none";
  return (
    <button
      type="button"
      class={s.alerts}
      aria-label={`${view.title}: ${said}${among && ` ${among}`}. Go to the list`}
      title={`${view.title}: ${said}${among && ` (${among})`}`}
      onClick={() => goTo(view.name)}
    >
      {shown.length === 0 && <span class={s.none}>no {view.title.toLowerCase()}</span>}
      {shown.map((each) => (
        <span key={each} class={s.count}>
          <SeverityMark severity={each} />
          {number(counts.get(each) ?? 0)} <span class={s.word}>{each}</span>
        </span>
      ))}
    </button>
  );
}

function OfEvents({ view }: { view: EventsView }) {
  const feed = useTopic(view.topic, { limit: view.limit });
  feed.revision.value;
  const full = feed.entries.length >= view.limit;
  return (
    <Counts
      view={view}
      rows={feed.entries.map(({ row }) => row)}
      severity={view.severity ?? ""}
      among={full ? `among the newest ${view.limit}` : ""}
    />
  );
}

function OfAlerts({ view }: { view: AlertsView }) {
  const feed = useTable(view.table);
  feed.revision.value;
  return (
    <Counts
      view={view}
      rows={[...feed.rows.values()].filter(isOpen)}
      severity="severity"
      among="open"
    />
  );
}

/** What is open, by severity, for every list that has one. */
export function Alerts() {
  const { app } = useStore();
  return (
    <>
      {app.views.map((view) =>
        view.kind === "alerts" ? (
          <OfAlerts key={view.name} view={view} />
        ) : view.kind === "events" && view.severity !== null ? (
          <OfEvents key={view.name} view={view} />
        ) : null,
      )}
    </>
  );
}
