import { age, clock } from "../data/format";
import controls from "../ui/controls.module.css";
import { SPANS, spanChosen, zoom } from "./axis";
import s from "./Chart.module.css";

/** One time axis for all charts: how much of it is shown. */
export function TimeAxis({ longest }: { longest: number }) {
  const chosen = spanChosen.value ?? longest;
  const offered = SPANS.filter((span) => span.seconds < longest);
  const zoomed = zoom.value;
  return (
    <div class={s.axis} role="group" aria-label="Time axis of all charts">
      {zoomed ? (
        <>
          <span>
            {clock(zoomed.min * 1_000)}–{clock(zoomed.max * 1_000)} UTC
          </span>
          <button
            type="button"
            class={controls.small}
            onClick={() => {
              zoom.value = null;
            }}
          >
            Back to now
          </button>
        </>
      ) : (
        <>
          <span>last</span>
          {[...offered, { seconds: longest, label: age(longest * 1_000) }].map((span) => (
            <button
              key={span.seconds}
              type="button"
              class={controls.small}
              aria-pressed={chosen === span.seconds}
              onClick={() => {
                spanChosen.value = span.seconds;
              }}
            >
              {span.label}
            </button>
          ))}
        </>
      )}
    </div>
  );
}
