// Builds the dashboard into the Python package. URLs are relative, so it works below any path prefix.
import { readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

/** Swagger UI is bundled as one file; the notices of its dependencies are separate files, which are joined here. */
const notices: Plugin = {
  name: "notices",
  generateBundle() {
    const texts = ["NOTICE", "swagger-ui-es-bundle.js.LICENSE.txt"].map((name) =>
      readFileSync(new URL(`node_modules/swagger-ui-dist/${name}`, import.meta.url), "utf-8"),
    );
    this.emitFile({ type: "asset", fileName: "SWAGGER_UI_NOTICES.txt", source: texts.join("\n") });
  },
};

export default defineConfig({
  base: "./",
  plugins: [notices],
  build: {
    outDir: "../collector/brain_collector/dashboard",
    emptyOutDir: true,
    assetsInlineLimit: 0, // data: URLs would need an exception in the Content-Security-Policy
    license: { fileName: "THIRD_PARTY_LICENSES.md" },
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1_600, // Swagger UI, loaded by /docs only
    rolldownOptions: { input: ["index.html", "docs.html"] },
    target: "es2023",
  },
  server: {
    proxy: Object.fromEntries(
      ["/api", "/health", "/openapi.json"].map((path) => [path, process.env["BRAIN_EVENTS_URL"] ?? "http://127.0.0.1:8001"]),
    ),
  },
});
