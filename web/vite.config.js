import { defineConfig } from "vite";

export default defineConfig({
  build: { outDir: "dist", assetsDir: "assets", target: "es2022", chunkSizeWarningLimit: 900 },
  server: { proxy: { "/v1": "http://127.0.0.1:8080", "/hls": "http://127.0.0.1:8080" } },
});
