import { defineConfig } from "vitest/config";

/** A safety net, which no test that passes ever reaches. */
const LIMIT_MS = 90_000;

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["support/shared-site.ts"],
    // Two browsers at a time: this machine may have two cores, and the site runs on them, too.
    maxWorkers: 2,
    testTimeout: LIMIT_MS,
    hookTimeout: 2 * LIMIT_MS,
    teardownTimeout: LIMIT_MS,
    expect: { poll: { timeout: LIMIT_MS / 3, interval: 50 } },
  },
});
