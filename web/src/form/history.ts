/** A value with its past, for undo and redo. */
export interface History<T> {
  past: readonly T[];
  now: T;
  future: readonly T[];
}

const KEPT = 200;

export function began<T>(now: T): History<T> {
  return { past: [], now, future: [] };
}

export function changed<T>(history: History<T>, now: T): History<T> {
  return { past: [...history.past, history.now].slice(-KEPT), now, future: [] };
}

/** Replaces the present without a step to go back to, e.g. during a drag. */
export function adjusted<T>(history: History<T>, now: T): History<T> {
  return { ...history, now };
}

export function undone<T>(history: History<T>): History<T> {
  const before = history.past.at(-1);
  if (before === undefined) return history;
  return { past: history.past.slice(0, -1), now: before, future: [history.now, ...history.future] };
}

export function redone<T>(history: History<T>): History<T> {
  const [after, ...future] = history.future;
  if (after === undefined) return history;
  return { past: [...history.past, history.now], now: after, future };
}
