import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { useStore } from "../data/hooks";
import { text } from "../data/row";
import s from "./dialog.module.css";
import { goTo, searchOpen } from "./keyboard";
import { select } from "./selection";

interface Hit {
  label: string;
  kind: string;
  go: () => void;
}

const SHOWN = 40;

function useHits(query: string): Hit[] {
  const store = useStore();
  // What arrives while a person types is found, too.
  store.now.value;
  const { views } = store.app;
  const wanted = query.trim().toLowerCase();
  const hits: Hit[] = [];
  const add = (label: string, kind: string, go: () => void) => {
    if (label.toLowerCase().includes(wanted)) hits.push({ label, kind, go });
  };
  for (const view of views) add(view.title, view.kind, () => goTo(view.name));
  for (const view of views) {
    if (view.kind !== "map") continue;
    const { zones } = view;
    if (zones) {
      for (const [key, row] of store.tableRows(zones.control_table)) {
        add(text(row, zones.label) || key, `zone ${key}`, () =>
          select({ what: "zone", view: view.name, key }, true),
        );
      }
    }
    for (const [key, row] of store.tableRows(view.table)) {
      add(text(row, view.label) || key, "vehicle", () =>
        select({ what: "vehicle", view: view.name, key }, true),
      );
    }
  }
  const starts = (hit: Hit) => (hit.label.toLowerCase().startsWith(wanted) ? 0 : 1);
  return hits.sort((a, b) => starts(a) - starts(b)).slice(0, SHOWN);
}

function Palette() {
  const [query, setQuery] = useState("");
  const [at, setAt] = useState(0);
  const list = useRef<HTMLDivElement>(null);
  const hits = useHits(query);
  const chosen = Math.min(at, hits.length - 1);
  useEffect(() => {
    list.current?.children[chosen]?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  const take = (hit: Hit | undefined) => {
    if (!hit) return;
    searchOpen.value = false;
    hit.go();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown") setAt(Math.min(chosen + 1, hits.length - 1));
    else if (event.key === "ArrowUp") setAt(Math.max(chosen - 1, 0));
    else if (event.key === "Enter") take(hits[chosen]);
    else return;
    event.preventDefault();
  };
  return (
    <>
      <input
        class={s.query}
        type="text"
        role="combobox"
        aria-expanded="true"
        aria-controls="search-results"
        aria-activedescendant={hits.length ? `hit-${chosen}` : undefined}
        aria-label="Search vehicles, zones and views"
        placeholder="Search vehicles, zones, views"
        value={query}
        onInput={(event) => {
          setQuery(event.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={onKeyDown}
      />
      <div ref={list} id="search-results" class={s.results} role="listbox" aria-label="Results">
        {hits.map((hit, index) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the combobox handles the keys
          <div
            key={`${hit.kind}/${hit.label}`}
            id={`hit-${index}`}
            role="option"
            aria-selected={index === chosen}
            onClick={() => take(hit)}
          >
            <span>{hit.label}</span>
            <small>{hit.kind}</small>
          </div>
        ))}
      </div>
      {hits.length === 0 && <p class={s.none}>Nothing is called “{query}”.</p>}
    </>
  );
}

export function Search() {
  const dialog = useRef<HTMLDialogElement>(null);
  const open = searchOpen.value;
  useLayoutEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  return (
    <dialog
      ref={dialog}
      class={`${s.dialog} ${s.search}`}
      aria-label="Search"
      onClose={() => {
        searchOpen.value = false;
      }}
    >
      {open && <Palette />}
    </dialog>
  );
}
