import type { AppInfo, Column } from "../wire";

function sample(column: Column): unknown {
  if (/^datetime/i.test(column.type)) return new Date().toISOString();
  if (/^(float|decimal)/i.test(column.type)) return 1.5;
  if (/^u?int/i.test(column.type)) return 1;
  if (/^bool/i.test(column.type)) return true;
  if (/^(list|array)/i.test(column.type)) return [];
  if (/^struct/i.test(column.type)) return {};
  return column.name.endsWith("_id") ? "demo-1" : "text";
}

/** A command that sends one row to a topic, with the columns that the topic declares. */
export function curlFor(app: AppInfo, topic: string, base: string): string | null {
  const info = app.topics[topic];
  if (!info) return null;
  const row = Object.fromEntries(info.columns.map((column) => [column.name, sample(column)]));
  const body = JSON.stringify(row).replaceAll("'", "'\\''");
  return `curl -X POST ${new URL(`topics/${topic}`, base).href} -H 'content-type: application/json' -d '${body}'`;
}

export function inputTopic(app: AppInfo): string | null {
  const names = Object.keys(app.topics);
  return names.find((name) => app.topics[name]?.role === "input") ?? names[0] ?? null;
}
