import { clock, compact, millis } from "../data/format";
import { useStore } from "../data/hooks";
import { applyTheme, nextTheme, theme } from "../theme";
import { Alerts } from "./Alerts";
import { helpOpen, searchOpen } from "./keyboard";
import { Losses } from "./Losses";
import s from "./TopBar.module.css";

const LINK = { connecting: "connecting", live: "connected", lost: "disconnected" } as const;

function Reading({ label, value, title }: { label: string; value: string; title: string }) {
  return (
    <div class={s.reading} title={title}>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Readings() {
  const store = useStore();
  const stats = store.stats.value;
  const lag = stats?.lag_ms ?? null;
  return (
    <dl class={s.readings}>
      <Reading
        label="event time"
        value={
          stats?.clock
            ? `${clock(store.paused.value ? Date.parse(stats.clock) : store.eventNow.value)} UTC`
            : "–"
        }
        title="The engine's clock, in UTC"
      />
      <Reading
        label="lag"
        value={lag === null ? "–" : millis(lag)}
        title="How far the newest processed row is behind the engine's clock"
      />
      <Reading
        label="rows/s"
        value={stats?.rows_per_s == null ? "–" : compact(stats.rows_per_s)}
        title="Rows taken in per second"
      />
      <Reading
        label="p95"
        value={stats?.p95_ms == null ? "–" : millis(stats.p95_ms)}
        title="95 of 100 rows went from arrival to committed output within this time"
      />
    </dl>
  );
}

export function TopBar() {
  const store = useStore();
  const { connection, paused, app } = store;
  const link = connection.state.value;
  const current = theme.value;
  return (
    <header class={s.bar}>
      <h1 class={s.name}>
        <svg width="18" height="18" viewBox="0 0 16 16" aria-hidden="true">
          <rect width="16" height="16" rx="3" />
          <path d="M3 5c2 0 2 2 4 2s2-2 6-2M3 10c2 0 2 2 4 2s2-2 6-2" />
        </svg>
        {app.title}
      </h1>
      <button
        type="button"
        class={`${s.mode} ${paused.value ? s.paused : ""}`}
        aria-pressed={paused.value}
        aria-label={paused.value ? "Paused: go on (space)" : "Live: pause (space)"}
        onClick={() => {
          paused.value = !paused.value;
        }}
      >
        <i aria-hidden="true" />
        {paused.value ? "Paused" : "Live"}
      </button>
      <Readings />
      <span class={s.open}>
        <Alerts />
        <Losses />
      </span>
      <span class={s.space} />
      <span class={`${s.link} ${s[link]}`} role="status" aria-label={`Connection: ${LINK[link]}`}>
        <i aria-hidden="true" />
        <span class={link === "live" ? s.word : undefined}>{LINK[link]}</span>
      </span>
      <button
        type="button"
        class={s.tool}
        onClick={() => {
          searchOpen.value = true;
        }}
        aria-label="Search (/)"
      >
        <kbd>/</kbd> <span class={s.word}>search</span>
      </button>
      <button
        type="button"
        class={s.tool}
        onClick={() => applyTheme(nextTheme())}
        aria-label={`Theme: ${current}. Switch to ${nextTheme()}`}
      >
        <span aria-hidden="true">{current === "dark" ? "◐" : current === "light" ? "○" : "◑"}</span>{" "}
        <span class={s.word}>{current}</span>
      </button>
      <button
        type="button"
        class={s.tool}
        onClick={() => {
          helpOpen.value = true;
        }}
        aria-label="Keyboard help (?)"
      >
        <kbd>?</kbd>
      </button>
    </header>
  );
}
