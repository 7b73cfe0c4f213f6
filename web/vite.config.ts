import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const gateway = process.env["HEADRACE_URL"] ?? "http://127.0.0.1:8000";
const api = ["/app", "/topics", "/tables", "/control", "/health", "/stats"];

export default defineConfig({
  // Relative addresses let the gateway serve the page under any prefix.
  base: "./",
  build: {
    outDir: fileURLToPath(new URL("../src/headrace/gateway/dashboard", import.meta.url)),
    emptyOutDir: true,
    target: "es2023",
    manifest: true,
    // MapLibre alone is over the default limit; scripts/budget.mjs holds the real limits.
    chunkSizeWarningLimit: 1200,
  },
  server: {
    proxy: {
      ...Object.fromEntries(api.map((path) => [path, gateway])),
      "/ws": { target: gateway, ws: true },
    },
  },
});
