import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const react18 = (name: string) => fileURLToPath(new URL(`test/react18/node_modules/${name}`, import.meta.url));

export default defineConfig({
  test: {
    coverage: { provider: "v8", include: ["src"], reporter: ["text", "json-summary"], thresholds: { lines: 100 } },
    projects: [
      { test: { name: "core", environment: "node", include: ["test/*.test.ts"] } },
      { test: { name: "react 19", environment: "jsdom", include: ["test/react/*.test.tsx"] } },
      {
        resolve: {
          alias: ["react", "react-dom", "@testing-library/react", "@tanstack/react-query"].map((name) => ({
            find: new RegExp(`^${name}(?=/|$)`),
            replacement: react18(name),
          })),
        },
        test: { name: "react 18", environment: "jsdom", include: ["test/react/*.test.tsx"] },
      },
    ],
  },
});
