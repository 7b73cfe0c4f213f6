/** Fails the build when what a first view of the page needs outgrows its limits (gzip bytes). */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const out = new URL("../../src/headrace/gateway/dashboard/", import.meta.url);
const manifest = JSON.parse(readFileSync(new URL(".vite/manifest.json", out), "utf8"));
const LIMIT_BYTES = 80_000;

function files(name, seen = new Set()) {
  const chunk = manifest[name];
  if (!chunk || seen.has(chunk.file)) return seen;
  seen.add(chunk.file);
  for (const style of chunk.css ?? []) seen.add(style);
  for (const imported of chunk.imports ?? []) files(imported, seen);
  return seen;
}

const gzipped = (file) => gzipSync(readFileSync(new URL(file, out))).length;
const total = (names) => [...names].reduce((sum, file) => sum + gzipped(file), 0);

const eager = files("index.html");
// Charts are wanted on nearly every page, so they count as part of the first load.
const chart = Object.keys(manifest).find((name) => name.endsWith("chart/Chart.tsx"));
if (chart) files(chart, eager);
const size = total(eager);
console.log(
  `shell and charts: ${(size / 1000).toFixed(1)} kB gzip of ${LIMIT_BYTES / 1000} kB (${fileURLToPath(out)})`,
);
if (size > LIMIT_BYTES) {
  console.error(
    `over the budget by ${size - LIMIT_BYTES} bytes; load something later or leave it out`,
  );
  process.exit(1);
}
