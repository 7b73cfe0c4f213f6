import type { Row } from "../wire";
import { clock, number } from "./format";
import { post, read, type Saved } from "./rest";
import { numeric, text } from "./row";

/** An alert with all that became of it, as `GET /alerts/{id}` tells it. */
export interface History {
  transitions: Row[];
  notifications: Row[];
  deliveries: Row[];
}

/** One line of who was told: what, by which channel, how it went. */
export interface Told {
  at: number;
  channel: string;
  what: string;
  outcome: string;
}

const OPEN = ["firing", "acknowledged", "pending"];
const RANKS = ["info", "warning", "high", "critical"];

export function isOpen(row: Row): boolean {
  return OPEN.includes(text(row, "state"));
}

/** Open alerts first, the most severe and then the newest on top; those that are over by time. */
export function ordered(rows: Iterable<Row>, limit: number): Row[] {
  const place = (row: Row) => {
    const state = OPEN.indexOf(text(row, "state"));
    return state < 0 ? OPEN.length : state;
  };
  const rank = (row: Row) => (isOpen(row) ? RANKS.indexOf(text(row, "severity")) : 0);
  return [...rows]
    .sort(
      (one, other) =>
        place(one) - place(other) ||
        rank(other) - rank(one) ||
        text(other, "timestamp").localeCompare(text(one, "timestamp")) ||
        text(one, "alert_id").localeCompare(text(other, "alert_id")),
    )
    .slice(0, limit);
}

/** What a rule saw: `depth_m 250 (before 190, limit 200)`. */
export function values(row: Row): string {
  const metrics = (row["metrics"] ?? []) as { metric: string; value: number | null }[];
  const parts = metrics.map(
    ({ metric, value }) => `${metric} ${value === null ? "–" : number(value)}`,
  );
  const before = numeric(row, "value_before");
  const limit = numeric(row, "threshold");
  const beside = [
    before === null ? "" : `before ${number(before)}`,
    limit === null ? "" : `limit ${number(limit)}`,
  ].filter(Boolean);
  return `${parts.join(", ") || "–"}${beside.length ? ` (${beside.join(", ")})` : ""}`;
}

/** What happened: `firing, was pending: severity raised, by ann: “on my way”`. */
export function story(row: Row): string {
  const before = text(row, "previous_state");
  const by = text(row, "by");
  const note = text(row, "note");
  return [
    text(row, "state"),
    before && before !== text(row, "state") ? `, was ${before}` : "",
    text(row, "reason") ? `: ${text(row, "reason")}` : "",
    by ? `, by ${by}` : "",
    note ? `: “${note}”` : "",
  ].join("");
}

/** Who was told, oldest first, each with what the last attempt came to. */
export function told(history: History): Told[] {
  return history.notifications.map((notification) => {
    const name = text(notification, "notification_id");
    const channel = text(notification, "channel");
    const mine = history.deliveries.filter(
      (one) => text(one, "notification_id") === name && text(one, "channel") === channel,
    );
    const last = mine.at(-1);
    const tries = mine.length > 1 ? ` after ${mine.length} attempts` : "";
    const reason = last && text(last, "outcome") !== "delivered" ? text(last, "reason") : "";
    return {
      at: Date.parse(text(notification, "created")),
      channel,
      what: text(notification, "kind"),
      outcome: last
        ? `${text(last, "outcome")}${tries}${reason ? `: ${reason}` : ""}`
        : "not sent yet",
    };
  });
}

export function toldLine({ at, channel, what, outcome }: Told): string {
  return `${clock(at)} ${channel}, ${what}: ${outcome}`;
}

export async function historyOf(id: string): Promise<History | { problem: string }> {
  const answer = await read(`alerts/${encodeURIComponent(id)}`);
  return "problem" in answer ? answer : (answer.body as History);
}

export type Action = "acknowledge" | "resolve" | "comment";

export function act(id: string, action: Action, by: string, note: string): Promise<Saved> {
  return post(`alerts/${encodeURIComponent(id)}/${action}`, { by, note });
}

/** What keeps one rule quiet for one key, from now on for so many minutes. */
export function silenceOf(row: Row, minutes: number, by: string, note: string, now: number): Row {
  const ends = new Date(now + minutes * 60_000).toISOString();
  // Wildcards in a name would match more than this alert.
  const exactly = (name: string) => text(row, name).replace(/[[*?]/g, "[$&]");
  return {
    silence_id: `${text(row, "alert_id")}-${now}`,
    rule: exactly("rule_id"),
    key: row["key"] === null ? null : exactly("key"),
    starts_at: null,
    ends_at: ends,
    by,
    note,
  };
}

export function silence(row: Row): Promise<Saved> {
  return post("silences", row);
}
