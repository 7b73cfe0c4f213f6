import { age, clock, plural } from "../data/format";
import { useStore } from "../data/hooks";
import s from "./ConnectionBar.module.css";

/** Shows only when something is to be said: the link or the engine is lost, the page paused. */
export function ConnectionBar() {
  const store = useStore();
  const { connection } = store;
  const lost = connection.lostAt.value;
  const caughtUp = store.caughtUp.value;
  const problem = store.engineProblem.value;
  let said: preact.ComponentChildren = null;
  let kind = s.calm;
  if (connection.state.value === "lost" && lost !== null) {
    kind = s.lost;
    said = (
      <>
        <b>Connection lost</b> {age(store.now.value - lost)} ago. The page shows what was true at{" "}
        {clock(lost)} UTC and goes on from there when the gateway answers.{" "}
        <button type="button" onClick={() => connection.retryNow()}>
          Try now
        </button>
      </>
    );
  } else if (problem !== null) {
    kind = s.lost;
    said = (
      <>
        <b>The engine does not work:</b> {problem}. What is shown is from before; what is sent is
        kept and worked off later.
      </>
    );
  } else if (store.paused.value) {
    said = (
      <>
        <b>Paused.</b> {plural(store.waiting.value, "row")} waiting.{" "}
        <button
          type="button"
          onClick={() => {
            store.paused.value = false;
          }}
        >
          Go on
        </button>
      </>
    );
  } else if (caughtUp !== null) {
    said = <>Connection is back. Caught up {plural(caughtUp, "row")}.</>;
  }
  return (
    <div class={s.holder} role="status" aria-live="polite">
      {said && <p class={`${s.bar} ${kind}`}>{said}</p>}
    </div>
  );
}
