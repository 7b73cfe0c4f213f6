/** Writes the licence text of every package whose code or data is in the build beside it. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";

const root = new URL("../", import.meta.url);
const out = new URL(
  "../../src/headrace/gateway/dashboard/THIRD_PARTY_LICENSES.txt",
  import.meta.url,
);
const lock = JSON.parse(readFileSync(new URL("package-lock.json", root), "utf8"));

const parts = [];
const missing = [];
for (const [path, entry] of Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1))) {
  // Types and build tools leave nothing in the page.
  if (!path || entry.dev || path.includes("node_modules/@types/")) continue;
  const folder = new URL(`${path}/`, root);
  if (!existsSync(folder)) continue;
  const name = path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
  const file = readdirSync(folder).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
  const text = file ? readFileSync(new URL(file, folder), "utf8").trim() : null;
  if (!text) missing.push(`${name} (${entry.license ?? "no licence stated"})`);
  const body = text ?? `Licence as stated in its package.json: ${entry.license}`;
  parts.push(
    `${name} ${entry.version}\n${"-".repeat(`${name} ${entry.version}`.length)}\n\n${body}\n`,
  );
}
const preface =
  "The dashboard contains the following packages. Coastlines: Natural Earth, public domain.\n";
writeFileSync(out, `${preface}\n${parts.join("\n\n")}`);
console.log(
  `licences of ${parts.length} packages written; without a licence file: ${missing.join(", ") || "none"}`,
);
