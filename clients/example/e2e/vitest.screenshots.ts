import { defineConfig } from "vitest/config";

const LIMIT_MS = 90_000;

export default defineConfig({
  test: {
    include: ["screenshots.ts"],
    globalSetup: ["support/shared-site.ts"],
    testTimeout: LIMIT_MS,
    hookTimeout: 2 * LIMIT_MS,
  },
});
