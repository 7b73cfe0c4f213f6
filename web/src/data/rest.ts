import type { Key, Row } from "../wire";

export type Saved =
  | { outcome: "saved"; row: Row | null }
  /** Somebody else was faster; `row` is what is stored now. */
  | { outcome: "conflict"; row: Row | null }
  | { outcome: "refused"; problem: string };

interface Problem {
  message?: string;
  hint?: string | null;
  detail?: string | { msg?: string; loc?: (string | number)[] }[] | Problem;
  error?: Problem | string;
  title?: string;
}

/** The words of an error body, whichever of the usual shapes it has. */
export function problemText(body: unknown, status: number): string {
  const problem = (body ?? {}) as Problem;
  const { error, detail } = problem;
  if (typeof error === "object") return problemText(error, status);
  if (typeof error === "string" && !problem.message) return error;
  if (problem.message) return [problem.message, problem.hint].filter(Boolean).join(". ");
  if (typeof detail === "string") return detail;
  if (Array.isArray(detail)) {
    const parts = detail.map(
      ({ loc, msg }) => `${loc?.filter((part) => part !== "body").join(".") ?? ""}: ${msg ?? ""}`,
    );
    return parts.join("; ");
  }
  if (detail) return problemText(detail, status);
  return problem.title ?? `the gateway answered ${status}`;
}

function unwrap(body: unknown): Row | null {
  if (typeof body !== "object" || body === null) return null;
  const holder = body as { row?: Row; current?: Row };
  return holder.row ?? holder.current ?? (body as Row);
}

async function send(
  path: string,
  method: string,
  row: Row | null,
  version: number | null,
): Promise<Saved> {
  const headers: Record<string, string> = {};
  if (row) headers["content-type"] = "application/json";
  if (version !== null) headers["if-match"] = `"${version}"`;
  let answer: Response;
  try {
    const body = row ? { body: JSON.stringify(row) } : {};
    answer = await fetch(new URL(path, document.baseURI), { method, headers, ...body });
  } catch {
    return {
      outcome: "refused",
      problem: "The gateway did not answer. Nothing was saved; try again.",
    };
  }
  const text = await answer.text();
  let body: unknown = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    body = { message: text.slice(0, 200) };
  }
  if (answer.status === 412) return { outcome: "conflict", row: unwrap(body) };
  if (!answer.ok) return { outcome: "refused", problem: problemText(body, answer.status) };
  return { outcome: "saved", row: unwrap(body) };
}

/** Asks for JSON; the words of what went wrong otherwise. */
export async function read(path: string): Promise<{ body: unknown } | { problem: string }> {
  try {
    const answer = await fetch(new URL(path, document.baseURI));
    const body: unknown = await answer.json();
    return answer.ok ? { body } : { problem: problemText(body, answer.status) };
  } catch {
    return { problem: "The gateway did not answer." };
  }
}

export function post(path: string, row: Row): Promise<Saved> {
  return send(path, "POST", row, null);
}

function path(table: string, key: Key): string {
  return `control/${encodeURIComponent(table)}/${encodeURIComponent(String(key))}`;
}

export function replaceRow(
  table: string,
  key: Key,
  row: Row,
  version: number | null,
): Promise<Saved> {
  return send(path(table, key), "PUT", row, version);
}

export function createRow(table: string, row: Row): Promise<Saved> {
  return send(`control/${encodeURIComponent(table)}`, "POST", row, null);
}

export function deleteRow(table: string, key: Key, version: number | null): Promise<Saved> {
  return send(path(table, key), "DELETE", null, version);
}
