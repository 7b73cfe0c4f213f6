import { expect, test } from "vitest";
import { ordered, silenceOf, story, told, toldLine, values } from "../src/data/alerts";
import type { Row } from "../src/wire";

function alert(alert_id: string, state: string, severity: string, timestamp: string): Row {
  return { alert_id, state, severity, timestamp };
}

test("open alerts stand on top, the most severe first, then the newest", () => {
  const rows = [
    alert("over", "resolved", "critical", "2026-01-01T09:00:00Z"),
    alert("old", "firing", "high", "2026-01-01T07:00:00Z"),
    alert("taken", "acknowledged", "critical", "2026-01-01T08:00:00Z"),
    alert("new", "firing", "high", "2026-01-01T08:00:00Z"),
    alert("worst", "firing", "critical", "2026-01-01T01:00:00Z"),
  ];
  expect(ordered(rows, 9).map((row) => row["alert_id"])).toEqual([
    "worst",
    "new",
    "old",
    "taken",
    "over",
  ]);
  expect(ordered(rows, 2)).toHaveLength(2);
});

test("values are shown with what they were before and the limit", () => {
  const metrics = [{ metric: "depth_m", value: 250 }];
  expect(values({ metrics, value_before: 190.5, threshold: 200 })).toBe(
    "depth_m 250 (before 190.5, limit 200)",
  );
  expect(values({ metrics: [], value_before: null, threshold: null })).toBe("–");
});

test("a transition is told as a sentence", () => {
  const row = { state: "acknowledged", previous_state: "firing", by: "ann", note: "on my way" };
  expect(story(row)).toBe("acknowledged, was firing, by ann: “on my way”");
  expect(story({ state: "firing", previous_state: "firing", reason: "severity raised" })).toBe(
    "firing: severity raised",
  );
});

test("who was told is shown with what the last attempt came to", () => {
  const told_ = (name: string, channel: string): Row => ({
    notification_id: name,
    channel,
    kind: "transition",
    created: "2026-01-01T08:00:00Z",
  });
  const attempt = (outcome: string, channel: string): Row => ({
    notification_id: "r/a/1",
    channel,
    outcome,
    reason: outcome === "delivered" ? "" : "refused",
  });
  const lines = told({
    transitions: [],
    notifications: [told_("r/a/1", "hook"), told_("r/a/1", "mail"), told_("r/a/2", "hook")],
    deliveries: [attempt("failed", "hook"), attempt("delivered", "hook"), attempt("dead", "mail")],
  });
  expect(lines.map(toldLine)).toEqual([
    "08:00:00 hook, transition: delivered after 2 attempts",
    "08:00:00 mail, transition: dead: refused",
    "08:00:00 hook, transition: not sent yet",
  ]);
});

test("a silence from the list names exactly this rule and key", () => {
  const row = { alert_id: "f00", rule_id: "deep*", key: "auv-[1]" };
  expect(silenceOf(row, 60, "ann", "known", Date.UTC(2026, 0, 1))).toEqual({
    silence_id: `f00-${Date.UTC(2026, 0, 1)}`,
    rule: "deep[*]",
    key: "auv-[[]1]",
    starts_at: null,
    ends_at: "2026-01-01T01:00:00.000Z",
    by: "ann",
    note: "known",
  });
});
