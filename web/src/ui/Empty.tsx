import { useStore } from "../data/hooks";
import { CopyButton } from "./Copy";
import { curlFor, inputTopic } from "./curl";
import s from "./Empty.module.css";

export function Empty({ what, topic }: { what: string; topic?: string | null }) {
  const { app } = useStore();
  const own = topic && app.topics[topic]?.role === "input" ? topic : null;
  const command = curlFor(app, own ?? inputTopic(app) ?? "", document.baseURI);
  return (
    <div class={s.empty}>
      <p>{what}</p>
      {command && (
        <div class={s.command}>
          <code>{command}</code>
          <CopyButton text={() => command} label="Copy" />
        </div>
      )}
    </div>
  );
}
