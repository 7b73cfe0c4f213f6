import controls from "../ui/controls.module.css";
import type { Field } from "./fields";
import s from "./form.module.css";

interface InputProps {
  field: Field;
  text: string;
  problem: string | null;
  disabled?: boolean;
  /** Values in use, offered where any text is allowed. */
  suggestions?: readonly string[];
  onText: (text: string) => void;
}

export function FieldInput({
  field,
  text,
  problem,
  disabled = false,
  suggestions = [],
  onText,
}: InputProps) {
  const id = `field-${field.name}`;
  const common = {
    id,
    disabled,
    "aria-invalid": problem !== null,
    "aria-describedby": problem ? `${id}-problem` : undefined,
  } as const;
  const onInput = (event: { currentTarget: { value: string } }) =>
    onText(event.currentTarget.value);
  return (
    <div class={s.field}>
      <label for={id} title={field.help ?? undefined}>
        {field.title}
        {field.required && <span aria-hidden="true"> *</span>}
      </label>
      {field.kind === "choice" ? (
        <select
          {...common}
          class={controls.input}
          value={text}
          onChange={onInput}
          required={field.required}
        >
          {(field.nullable || text === "") && <option value="">–</option>}
          {field.choices.map((choice) => (
            <option key={String(choice)} value={String(choice)}>
              {String(choice)}
            </option>
          ))}
        </select>
      ) : field.kind === "boolean" ? (
        <input
          {...common}
          type="checkbox"
          checked={text === "true"}
          onChange={(event) => onText(String(event.currentTarget.checked))}
        />
      ) : field.kind === "json" ? (
        <textarea
          {...common}
          class={controls.input}
          rows={2}
          spellcheck={false}
          value={text}
          onInput={onInput}
        />
      ) : (
        <input
          {...common}
          class={controls.input}
          type="text"
          list={suggestions.length ? `${id}-known` : ""}
          inputMode={field.kind === "text" || field.kind === "time" ? "text" : "decimal"}
          placeholder={field.kind === "time" ? "HH:MM, UTC" : field.nullable ? "none" : ""}
          value={text}
          onInput={onInput}
          autocomplete="off"
        />
      )}
      {suggestions.length > 0 && (
        <datalist id={`${id}-known`}>
          {suggestions.map((known) => (
            <option key={known} value={known} />
          ))}
        </datalist>
      )}
      {problem && (
        <p id={`${id}-problem`} class={s.problem}>
          {field.title} {problem}
        </p>
      )}
    </div>
  );
}
