import { useEffect, useMemo, useState } from "preact/hooks";
import {
  type Action,
  act,
  type History,
  historyOf,
  isOpen,
  ordered,
  silence,
  silenceOf,
  story,
  told,
  toldLine,
  values,
} from "../data/alerts";
import { clock, dateTime, plural } from "../data/format";
import { useTable } from "../data/hooks";
import type { Saved } from "../data/rest";
import { text } from "../data/row";
import f from "../form/form.module.css";
import controls from "../ui/controls.module.css";
import { Empty } from "../ui/Empty";
import { SeverityMark, severityOf } from "../ui/severity";
import { ViewFrame } from "../ui/ViewFrame";
import type { AlertsView, Row } from "../wire";
import s from "./Alerts.module.css";

const SILENCES = [
  { minutes: 60, label: "1 h" },
  { minutes: 480, label: "8 h" },
] as const;
const NAME = "headrace.by";

function knownName(): string {
  try {
    return localStorage.getItem(NAME) ?? "";
  } catch {
    // Storage may be switched off; the name is then asked for each time.
    return "";
  }
}

function keepName(name: string): void {
  try {
    localStorage.setItem(NAME, name);
  } catch {
    // See above.
  }
}

function Actions({ row, done }: { row: Row; done: () => void }) {
  const [by, setBy] = useState(knownName);
  const [note, setNote] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const id = text(row, "alert_id");

  const run = async (work: () => Promise<Saved>) => {
    keepName(by);
    setBusy(true);
    const saved = await work();
    setBusy(false);
    if (saved.outcome === "saved") {
      setNote("");
      setProblem(null);
      done();
    } else {
      setProblem(saved.outcome === "refused" ? saved.problem : "Somebody else was faster.");
    }
  };
  const button = (action: Action, label: string, off: boolean) => (
    <button
      type="button"
      class={controls.small}
      disabled={busy || off}
      onClick={() => void run(() => act(id, action, by, note))}
    >
      {label}
    </button>
  );
  return (
    <form class={s.actions} aria-label="What to do" onSubmit={(event) => event.preventDefault()}>
      <input
        class={controls.input}
        aria-label="Your name"
        placeholder="Your name"
        value={by}
        onInput={(event) => setBy(event.currentTarget.value)}
      />
      <input
        class={controls.input}
        aria-label="Note"
        placeholder="Note"
        value={note}
        onInput={(event) => setNote(event.currentTarget.value)}
      />
      <p>
        {button("acknowledge", "Acknowledge", text(row, "state") !== "firing")}
        {button("comment", "Comment", !isOpen(row) || note.trim() === "")}
        {button("resolve", "Resolve", !isOpen(row))}
        {SILENCES.map(({ minutes, label }) => (
          <button
            key={minutes}
            type="button"
            class={controls.small}
            disabled={busy}
            onClick={() => void run(() => silence(silenceOf(row, minutes, by, note, Date.now())))}
          >
            Silence {label}
          </button>
        ))}
      </p>
      {problem && (
        <p class={`${f.said} ${f.bad}`} role="alert">
          Not done: {problem}
        </p>
      )}
    </form>
  );
}

function Detail({ row }: { row: Row }) {
  const [history, setHistory] = useState<History | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [asked, ask] = useState(0);
  const id = text(row, "alert_id");
  const number = row["transition"];
  useEffect(() => {
    let wanted = true;
    void historyOf(id).then((found) => {
      if (!wanted) return;
      if ("problem" in found) setProblem(found.problem);
      else {
        setProblem(null);
        setHistory(found);
      }
    });
    return () => {
      wanted = false;
    };
  }, [id, number, asked]);
  const lines = history ? told(history) : [];
  return (
    <div class={s.detail}>
      <dl>
        <dt>rule</dt>
        <dd>
          {text(row, "rule_name") || text(row, "rule_id")} ({text(row, "rule_id")}, version{" "}
          {text(row, "rule_version") || "–"})
        </dd>
        <dt>key</dt>
        <dd>{text(row, "key") || "–"}</dd>
        <dt>values</dt>
        <dd>{values(row)}</dd>
        <dt>what happened</dt>
        <dd>
          <ol>
            {(history?.transitions ?? [row]).map((one) => (
              <li key={String(one["transition"])}>
                {clock(Date.parse(text(one, "timestamp")))} {story(one)}
              </li>
            ))}
          </ol>
        </dd>
        <dt>who was told</dt>
        <dd>
          {problem}
          {history && lines.length === 0 && "nobody"}
          <ol>
            {lines.map((line) => (
              <li key={toldLine(line)}>{toldLine(line)}</li>
            ))}
          </ol>
        </dd>
      </dl>
      <Actions row={row} done={() => ask((times) => times + 1)} />
    </div>
  );
}

/** Alerts as they are now: open ones first, each with its story and what to do about it. */
export function AlertsPanel({ view }: { view: AlertsView }) {
  const feed = useTable(view.table);
  const revision = feed.revision.value;
  const [open, setOpen] = useState<string | null>(null);
  const rows = useMemo(() => ordered(feed.rows.values(), view.limit), [feed, revision, view.limit]);
  const firing = rows.filter((row) => text(row, "state") === "firing").length;
  return (
    <ViewFrame
      id={view.name}
      title={view.title}
      note={`${plural(firing, "alert")} firing`}
      heardAt={feed.heardAt}
    >
      <div class={s.wrap}>
        {rows.length === 0 ? (
          <Empty what="Alerts appear here when a rule holds." topic={null} />
        ) : (
          <ol class={s.list} aria-label={`${view.title}, open ones first`}>
            {rows.map((row) => {
              const id = text(row, "alert_id");
              const at = Date.parse(text(row, "timestamp"));
              return (
                <li key={id} class={`${s.item} ${isOpen(row) ? "" : s.over}`}>
                  <button
                    type="button"
                    class={s.line}
                    aria-expanded={open === id}
                    onClick={() => setOpen(open === id ? null : id)}
                  >
                    <span class={s.severity}>
                      <SeverityMark severity={severityOf(text(row, "severity"))} />
                      {text(row, "severity")}
                    </span>
                    <span class={s.text}>{text(row, "message") || text(row, "rule_name")}</span>
                    <time dateTime={text(row, "timestamp")} title={`${dateTime(at)} UTC`}>
                      {clock(at)}
                    </time>
                    <span class={s.extra}>
                      {text(row, "state")} · {text(row, "key")}
                    </span>
                  </button>
                  {open === id && <Detail row={row} />}
                </li>
              );
            })}
          </ol>
        )}
      </div>
    </ViewFrame>
  );
}
