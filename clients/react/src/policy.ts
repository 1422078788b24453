/** When to try again. Times are milliseconds. */
export interface RetryOptions {
  /** How often, before the connection counts as lost (5). */
  attempts: number;
  /** How long to wait before each (3000). */
  delayMs: number;
  /** Up to so much longer, at random, so that not everybody comes at once (1000). */
  jitterMs: number;
  /** A stream that was open for so long ends the count (10,000). */
  stableMs: number;
  /** How often a lost connection is tried while the tab is visible (60,000); 0: not by itself. */
  slowMs: number;
}

/** What is known when an attempt or a stream has failed. */
export interface Failure {
  /** Failures in a row, this one included. */
  failures: number;
  /** `navigator.onLine`. */
  online: boolean;
  /** 0 to 1. */
  random: number;
}

/** What to do then. `delayMs` null: nothing, until something happens. `slow`: only if the tab is visible. */
export interface Plan {
  status: "waiting" | "lost";
  delayMs: number | null;
  slow: boolean;
}

/**
 * Whether and when to try again. Offline the browser will say when there is a network; it is mistaken at
 * times (a server on the same machine, a VPN), so it is tried now and then all the same.
 */
export function plan(options: RetryOptions, { failures, online, random }: Failure): Plan {
  const status = failures > options.attempts ? "lost" : "waiting";
  const jitter = random * options.jitterMs;
  if (status === "waiting" && online) return { status, delayMs: options.delayMs + jitter, slow: false };
  return { status, delayMs: options.slowMs > 0 ? options.slowMs + jitter : null, slow: true };
}

/** How many failures in a row it is now. A stable stream ends the count, and offline nothing is counted. */
export function count(options: RetryOptions, before: { failures: number; openMs: number; online: boolean }): number {
  const failures = before.openMs >= options.stableMs ? 0 : before.failures;
  return before.online ? failures + 1 : failures;
}
