import type { JsonSchema, Scalar, Value } from "../wire";

export type FieldKind = "text" | "number" | "integer" | "boolean" | "choice" | "time" | "json";

/** One input of a form, as the schema of a control table describes it. */
export interface Field {
  name: string;
  title: string;
  kind: FieldKind;
  help: string | null;
  required: boolean;
  nullable: boolean;
  choices: Scalar[];
  min: number | null;
  max: number | null;
  /** The bounds themselves are not allowed. */
  openMin: boolean;
  openMax: boolean;
  minLength: number;
  maxLength: number | null;
  pattern: string | null;
  /** JSON, where text that is none stands for itself. */
  orText: boolean;
  fallback: Value;
}

/** Follows references and takes the null out of `anyOf`. */
function resolved(schema: JsonSchema, root: JsonSchema): { schema: JsonSchema; nullable: boolean } {
  let current = schema;
  let nullable = false;
  for (let depth = 0; depth < 8; depth += 1) {
    const name = current.$ref?.match(/^#\/\$defs\/(.+)$/)?.[1];
    if (name) {
      const { $ref: _ref, ...outer } = current;
      current = { ...root.$defs?.[name], ...outer };
      continue;
    }
    const options = current.anyOf ?? current.allOf;
    if (!options) break;
    const rest = options.filter((option) => option.type !== "null");
    nullable ||= rest.length < options.length;
    const [only] = rest;
    if (!only || rest.length > 1) break;
    const { anyOf: _any, allOf: _all, ...outer } = current;
    current = { ...only, ...outer };
  }
  if (Array.isArray(current.type)) {
    const types = current.type.filter((type) => type !== "null");
    nullable ||= types.length < current.type.length;
    if (types.length === 1 && types[0]) current = { ...current, type: types[0] };
  }
  return { schema: current, nullable };
}

function kindOf(schema: JsonSchema): FieldKind {
  if (schema.enum || schema.const !== undefined) return "choice";
  if (schema.type === "number") return "number";
  if (schema.type === "integer") return "integer";
  if (schema.type === "boolean") return "boolean";
  if (schema.type === "string") return schema.format === "time" ? "time" : "text";
  return "json";
}

/** Whether a value of several kinds may be plain text. */
function takesText(schema: JsonSchema, root: JsonSchema): boolean {
  const options = schema.anyOf ?? [];
  return options.some((option) => resolved(option, root).schema.type === "string");
}

function words(name: string): string {
  const spaced = name.replaceAll("_", " ");
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

export function fieldsOf(root: JsonSchema, without: ReadonlySet<string>): Field[] {
  return Object.entries(root.properties ?? {})
    .filter(([name]) => !without.has(name))
    .map(([name, declared]) => {
      const { schema, nullable } = resolved(declared, root);
      return {
        name,
        title: words(name),
        kind: kindOf(schema),
        help: schema.description ?? null,
        required: root.required?.includes(name) ?? false,
        nullable,
        choices: schema.enum ?? (schema.const === undefined ? [] : [schema.const]),
        min: schema.minimum ?? schema.exclusiveMinimum ?? null,
        max: schema.maximum ?? schema.exclusiveMaximum ?? null,
        openMin: schema.exclusiveMinimum !== undefined,
        openMax: schema.exclusiveMaximum !== undefined,
        minLength: schema.minLength ?? 0,
        maxLength: schema.maxLength ?? null,
        pattern: schema.pattern ?? null,
        orText: takesText(schema, root),
        fallback: schema.default ?? declared.default ?? null,
      };
    });
}

/** What a person typed, as it stands in the input. */
export function shown(value: Value | undefined): string {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

export type Read = { value: Value } | { problem: string };

function readNumber(field: Field, text: string): Read {
  const value = Number(text);
  if (!Number.isFinite(value)) return { problem: "must be a number" };
  if (field.kind === "integer" && !Number.isInteger(value))
    return { problem: "must be a whole number" };
  const { min, max } = field;
  if (min !== null && (value < min || (field.openMin && value === min))) {
    return { problem: `must be ${field.openMin ? "more than" : "at least"} ${min}` };
  }
  if (max !== null && (value > max || (field.openMax && value === max))) {
    return { problem: `must be ${field.openMax ? "less than" : "at most"} ${max}` };
  }
  return { value };
}

function readTime(text: string): Read {
  const [, hours = "", minutes = "", seconds = "00"] =
    text.match(/^(\d{1,2}):(\d{2})(?::(\d{2}))?$/) ?? [];
  const good = hours !== "" && Number(hours) < 24 && Number(minutes) < 60 && Number(seconds) < 60;
  if (!good) return { problem: "must be a time of day, e.g. 22:00" };
  return { value: `${hours.padStart(2, "0")}:${minutes}:${seconds}` };
}

function readText(field: Field, text: string): Read {
  if (text.length < field.minLength)
    return { problem: `needs at least ${field.minLength} characters` };
  if (field.maxLength !== null && text.length > field.maxLength) {
    return { problem: `may have at most ${field.maxLength} characters` };
  }
  if (field.pattern && !new RegExp(field.pattern, "u").test(text))
    return { problem: `must match ${field.pattern}` };
  return { value: text };
}

/** The value that an input stands for, or why it stands for none. */
export function readField(field: Field, text: string): Read {
  const trimmed = text.trim();
  if (trimmed === "" && field.kind !== "boolean") {
    if (field.nullable) return { value: null };
    if (field.kind === "text" && field.minLength === 0 && !field.required) return { value: "" };
    return field.required ? { problem: "is needed" } : { value: field.fallback };
  }
  switch (field.kind) {
    case "number":
    case "integer":
      return readNumber(field, trimmed);
    case "time":
      return readTime(trimmed);
    case "boolean":
      return { value: trimmed === "true" };
    case "choice":
      return { value: field.choices.find((choice) => String(choice) === trimmed) ?? trimmed };
    case "json":
      try {
        return { value: JSON.parse(trimmed) as Value };
      } catch {
        return field.orText ? { value: trimmed } : { problem: "must be JSON" };
      }
    default:
      return readText(field, trimmed);
  }
}
