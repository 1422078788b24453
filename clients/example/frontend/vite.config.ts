import react from "@vitejs/plugin-react";
import type { ProxyOptions } from "vite";
import { defineConfig } from "vitest/config";

// Where the API and the streams are in development: the backend of ../backend, and sse.
const backend = process.env.BACKEND_URL ?? "http://127.0.0.1:8000";
const sse = process.env.SSE_URL ?? "http://127.0.0.1:8090";

/** Streams; one that breaks off behind the proxy must break off in the browser too. */
const streams: ProxyOptions = {
  target: sse,
  configure: (proxy) => {
    proxy.on("proxyRes", (answer, _request, response) => {
      answer.on("close", () => answer.complete || response.destroy());
    });
  },
};

const proxy = {
  "/api/v1/sse/events": streams,
  "/api/v1/sse/stats": sse,
  "/api": backend,
};

export default defineConfig({
  plugins: [react()],
  // sse-react is a link to a folder that has a React of its own, for its tests. One page must have one.
  resolve: { dedupe: ["react", "react-dom", "@tanstack/react-query"] },
  server: { proxy },
  preview: { proxy },
  test: {
    environment: "happy-dom",
    // A page address that requests of "/api/v1/..." are resolved against.
    environmentOptions: { happyDOM: { url: "http://localhost:3000/" } },
    include: ["test/**/*.test.{ts,tsx}"],
    setupFiles: ["test/setup.ts"],
    restoreMocks: true,
    // In development mode every event is logged.
    silent: "passed-only",
    testTimeout: 60_000,
    server: { deps: { inline: ["sse-react"] } },
  },
});
