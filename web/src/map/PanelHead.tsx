import { select } from "../shell/selection";
import s from "./Panel.module.css";

export function PanelHead({
  title,
  kind,
  onClose,
}: {
  title: string;
  kind: string;
  onClose?: () => void;
}) {
  return (
    <header class={s.head}>
      <h3>{title}</h3>
      <small>{kind}</small>
      <button
        type="button"
        class={s.close}
        aria-label="Close panel (esc)"
        onClick={onClose ?? (() => select(null))}
      >
        ×
      </button>
    </header>
  );
}
