import { useState } from "preact/hooks";
import { createRow, deleteRow, replaceRow, type Saved } from "../data/rest";
import controls from "../ui/controls.module.css";
import type { Key, Row } from "../wire";
import s from "./form.module.css";

/** A row as it was when its edit began; what arrives meanwhile is a conflict when saving. */
export interface Origin {
  key: Key;
  row: Row;
}

export function versionOf(row: Row | null | undefined): number | null {
  return (row?.["version"] as number | undefined) ?? null;
}

/** How the saving of one row of a control table goes; `done` gets it as it is stored. */
export function useSaving(table: string, done: (row: Row | null) => void) {
  const [state, setState] = useState<Saved | "saving" | null>(null);
  const run = async (work: Promise<Saved>) => {
    setState("saving");
    const saved = await work;
    if (saved.outcome === "saved") done(saved.row);
    else setState(saved);
  };
  return {
    state,
    saving: state === "saving",
    reset: () => setState(null),
    /** Writes `row` in the place of version `over`; without an origin it must be new. */
    save: (origin: Origin | null, row: Row, over: number | null) =>
      run(origin ? replaceRow(table, origin.key, row, over) : createRow(table, row)),
    remove: (origin: Origin) => run(deleteRow(table, origin.key, versionOf(origin.row))),
  };
}

interface OutcomeProps {
  what: string;
  state: Saved | "saving" | null;
  /** The version the edit began from, and the one that is stored now where it is known. */
  mine: number | null;
  theirs: number | null;
  onTheirs: () => void;
  onMine: (over: number | null) => void;
}

/** Why a row was not saved, and what can be done. */
export function Outcome({ what, state, mine, theirs, onTheirs, onMine }: OutcomeProps) {
  if (state === null || state === "saving" || state.outcome === "saved") return null;
  if (state.outcome === "refused") {
    return (
      <p class={`${s.said} ${s.bad}`} role="alert">
        Not saved: {state.problem}
      </p>
    );
  }
  const stored = versionOf(state.row) ?? theirs;
  return (
    <div class={s.conflict} role="alert">
      <p>
        Somebody changed this {what} while you edited it (version {stored ?? "?"}, yours began from{" "}
        {mine}). Nothing was saved.
      </p>
      <p class={s.foot}>
        <button type="button" class={controls.small} onClick={onTheirs}>
          Take theirs
        </button>
        <button type="button" class={controls.small} onClick={() => onMine(stored)}>
          Replace with mine
        </button>
      </p>
    </div>
  );
}
