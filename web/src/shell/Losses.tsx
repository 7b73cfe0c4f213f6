import { compact, number } from "../data/format";
import { useStore } from "../data/hooks";
import s from "./Losses.module.css";

const KINDS = ["late", "dropped", "dead"] as const;

function href(path: string): string {
  return new URL(path, document.baseURI).href;
}

/** Rows that did not go the usual way, counted where they can be seen, with the reasons. */
export function Losses() {
  const store = useStore();
  const stats = store.stats.value;
  const topics = Object.entries(stats?.topics ?? {});
  const touched = topics.filter(([, topic]) => KINDS.some((kind) => (topic[kind] ?? 0) > 0));
  const dead = Object.keys(store.app.topics).filter((name) => name.endsWith(".dead"));
  return (
    <details class={s.losses}>
      <summary aria-label={KINDS.map((kind) => `${stats?.[kind] ?? 0} ${kind}`).join(", ")}>
        {KINDS.map((kind) => (
          <span key={kind} class={(stats?.[kind] ?? 0) > 0 ? s.some : s.none}>
            {kind} <b>{compact(stats?.[kind] ?? 0)}</b>
          </span>
        ))}
      </summary>
      <div class={s.card}>
        <p>
          Late rows came after their window was closed, dropped rows went by a topic's overflow
          rule, dead rows could not be read. Nothing else is left out.
        </p>
        {touched.length > 0 && (
          <table>
            <thead>
              <tr>
                <th scope="col">topic</th>
                {KINDS.map((kind) => (
                  <th key={kind} scope="col">
                    {kind}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {touched.map(([name, topic]) => (
                <tr key={name}>
                  <th scope="row">{name}</th>
                  {KINDS.map((kind) => (
                    <td key={kind}>{number(topic[kind] ?? 0)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        )}
        <ul>
          {dead.map((name) => (
            <li key={name}>
              <a href={href(`topics/${name}`)} target="_blank" rel="noreferrer">
                Reasons: /topics/{name}
              </a>
            </li>
          ))}
        </ul>
      </div>
    </details>
  );
}
