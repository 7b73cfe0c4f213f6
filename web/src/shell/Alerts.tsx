import { number } from "../data/format";
import { useStore, useTopic } from "../data/hooks";
import { text } from "../data/row";
import { SEVERITIES, type Severity, SeverityMark, severityOf } from "../ui/severity";
import type { EventsView } from "../wire";
import s from "./Alerts.module.css";
import { goTo } from "./keyboard";

function Counts({ view }: { view: EventsView }) {
  const feed = useTopic(view.topic, { limit: view.limit });
  feed.revision.value;
  const counts = new Map<Severity, number>();
  for (const { row } of feed.entries) {
    const severity = severityOf(text(row, view.severity));
    counts.set(severity, (counts.get(severity) ?? 0) + 1);
  }
  const shown = SEVERITIES.filter((severity) => counts.get(severity)).reverse();
  const full = feed.entries.length >= view.limit;
  const said = shown.map((severity) => `${counts.get(severity)} ${severity}`).join(", ") || "none";
  return (
    <button
      type="button"
      class={s.alerts}
      aria-label={`${view.title}: ${said}${full ? ` among the newest ${view.limit}` : ""}. Go to the list`}
      title={`${view.title}: ${said}${full ? ` (newest ${view.limit})` : ""}`}
      onClick={() => goTo(view.name)}
    >
      {shown.length === 0 && <span class={s.none}>no {view.title.toLowerCase()}</span>}
      {shown.map((severity) => (
        <span key={severity} class={s.count}>
          <SeverityMark severity={severity} />
          {number(counts.get(severity) ?? 0)} <span class={s.word}>{severity}</span>
        </span>
      ))}
    </button>
  );
}

/** What is open, by severity, for every list that has one. */
export function Alerts() {
  const { app } = useStore();
  const lists = app.views.filter(
    (view) => view.kind === "events" && view.severity !== null,
  ) as EventsView[];
  return (
    <>
      {lists.map((view) => (
        <Counts key={view.name} view={view} />
      ))}
    </>
  );
}
