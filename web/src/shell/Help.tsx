import { useLayoutEffect, useRef } from "preact/hooks";
import { useStore } from "../data/hooks";
import { SEVERITIES, SeverityMark } from "../ui/severity";
import s from "./dialog.module.css";
import { helpOpen } from "./keyboard";

export function Help({ letters }: { letters: Map<string, string> }) {
  const { app } = useStore();
  const dialog = useRef<HTMLDialogElement>(null);
  const open = helpOpen.value;
  useLayoutEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  const close = () => {
    helpOpen.value = false;
  };
  return (
    <dialog ref={dialog} class={s.dialog} aria-labelledby="help-title" onClose={close}>
      <header class={s.head}>
        <h2 id="help-title">Keyboard</h2>
        <button type="button" class={s.close} onClick={close} aria-label="Close help">
          ×
        </button>
      </header>
      <dl class={s.keys}>
        <dt>
          <kbd>/</kbd>
        </dt>
        <dd>Search vehicles, zones and views</dd>
        <dt>
          <kbd>space</kbd>
        </dt>
        <dd>Pause and go on; nothing is lost while paused</dd>
        {[...letters].map(([letter, name]) => (
          <>
            <dt>
              <kbd>g</kbd> <kbd>{letter}</kbd>
            </dt>
            <dd>Go to {app.views.find((view) => view.name === name)?.title ?? name}</dd>
          </>
        ))}
        <dt>
          <kbd>esc</kbd>
        </dt>
        <dd>Close what is open</dd>
        <dt>
          <kbd>?</kbd>
        </dt>
        <dd>This help</dd>
      </dl>
      <h3>Marks</h3>
      <ul class={s.marks}>
        {SEVERITIES.map((severity) => (
          <li key={severity}>
            <SeverityMark severity={severity} /> {severity}
          </li>
        ))}
      </ul>
      <p class={s.foot}>
        {app.title} {app.version} · all times are UTC
      </p>
    </dialog>
  );
}
