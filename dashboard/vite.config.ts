// Builds the page into the Python package, with relative addresses: it works under any path prefix.
import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  build: {
    outDir: "../collector/brain_collector/dashboard",
    emptyOutDir: true,
    assetsInlineLimit: 0, // a data: address would need an exception in the Content-Security-Policy
    license: { fileName: "THIRD_PARTY_LICENSES.md" },
    modulePreload: { polyfill: false },
    target: "es2023",
  },
  server: {
    proxy: Object.fromEntries(
      ["/api", "/health", "/docs", "/openapi.json"].map((path) => [path, process.env["BRAIN_EVENTS_URL"] ?? "http://127.0.0.1:8001"]),
    ),
  },
});
