import { expect, test } from "vitest";
import { count, plan } from "../src/policy.js";

const options = { attempts: 5, delayMs: 3000, jitterMs: 1000, stableMs: 10_000, slowMs: 60_000 };

test.each([
  // failures, online, random: status, delay, only if the tab is visible
  [1, true, 0, "waiting", 3000, false],
  [1, true, 0.5, "waiting", 3500, false],
  [5, true, 1, "waiting", 4000, false],
  [6, true, 0, "lost", 60_000, true],
  [50, true, 0.25, "lost", 60_250, true],
  [1, false, 0, "waiting", 60_000, true],
  [6, false, 0, "lost", 60_000, true],
] as const)("after %i failures (online: %s, random %d): %s, next try in %i ms, only if visible: %s", (...row) => {
  const [failures, online, random, status, delayMs, slow] = row;
  expect(plan(options, { failures, online, random })).toEqual({ status, delayMs, slow });
});

test("with slowMs 0 a lost connection waits for something to happen", () => {
  expect(plan({ ...options, slowMs: 0 }, { failures: 6, online: true, random: 1 }).delayMs).toBeNull();
});

test("with no attempts, it is lost at once", () => {
  expect(plan({ ...options, attempts: 0 }, { failures: 1, online: true, random: 0 }).status).toBe("lost");
});

test.each([
  [0, 0, true, 1],
  [3, 0, true, 4],
  [3, 9999, true, 4],
  [3, 10_000, true, 1], // a stable stream ends the count
  [3, 0, false, 3], // offline, no attempt is spent
  [3, 20_000, false, 0],
])("%i failures, then a stream for %i ms (online: %s): %i", (failures, openMs, online, expected) => {
  expect(count(options, { failures, openMs, online })).toBe(expected);
});
