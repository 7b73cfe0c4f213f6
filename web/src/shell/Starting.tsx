import s from "./App.module.css";

export function Starting({ problem }: { problem: string }) {
  return (
    <main class={s.starting} aria-live="polite">
      <h1>Waiting for the gateway</h1>
      <p>{problem}</p>
      <p>This page tries again every two seconds. Is it running? `headrace doctor` tells.</p>
    </main>
  );
}
