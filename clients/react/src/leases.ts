import type { Environment, LocksLike } from "./environment.js";

/** A lease is good for longer than a hidden tab sleeps, whose timers run once a minute. */
const LEASE_MS = 75_000;
const RENEW_MS = 20_000;
/** Within this moment all tabs know what one of them has stored; up to twice as long, at random. */
const VERIFY_MS = 50;

type Storage = NonNullable<Environment["storage"]>;

/**
 * Web Locks for pages that have none, as they come over plain http: leases in localStorage. Whoever finds no lease that
 * is good stores its own, and has the lock if that is still there a moment later. Two may have it for that moment, which
 * Web Locks rule out; the one whose lease is gone learns that by an event, like one that was robbed.
 */
export class Leases implements LocksLike {
  constructor(
    private readonly environment: Environment,
    private readonly storage: Storage,
  ) {}

  request(
    name: string,
    options: { signal?: AbortSignal; steal?: boolean },
    callback: () => Promise<void>,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const lease = new Lease(this.environment, this.storage, `${name}:lease`, callback, resolve, reject);
      lease.begin(options);
    });
  }
}

class Lease {
  private readonly owner: string;
  private state: "waiting" | "verifying" | "held" | "over" = "waiting";
  private timer: unknown = null;
  private off: (() => void) | null = null;

  constructor(
    private readonly environment: Environment,
    private readonly storage: Storage,
    private readonly key: string,
    private readonly callback: () => Promise<void>,
    private readonly resolve: () => void,
    private readonly reject: (error: unknown) => void,
  ) {
    this.owner = `${environment.now()}-${environment.random()}`;
  }

  begin({ signal, steal = false }: { signal?: AbortSignal; steal?: boolean }): void {
    this.off = this.environment.on("storage", () => this.look());
    signal?.addEventListener("abort", () => this.state !== "held" && this.lost("aborted"));
    if (steal) this.take(() => this.lost("stolen"));
    else this.look();
  }

  /** Something was stored, or the lease of another may have run out. */
  private look(): void {
    if (this.state === "held" && !this.mine) this.lost("stolen");
    if (this.state !== "waiting") return;
    const now = this.environment.now();
    const { until } = this.read();
    // One that is good for longer than any is of before the clock was set back.
    if (until <= now || until > now + LEASE_MS) this.take(() => this.wait());
    else this.later(until - now, () => this.look());
  }

  private wait(): void {
    this.state = "waiting";
    this.look();
  }

  private take(fail: () => void): void {
    this.state = "verifying";
    try {
      this.write();
    } catch (error) {
      this.end();
      this.reject(error);
      return;
    }
    this.later(VERIFY_MS * (1 + this.environment.random()), () => (this.mine ? this.hold() : fail()));
  }

  private hold(): void {
    this.state = "held";
    this.renewLater();
    void this.callback().then(() => {
      if (this.state === "over") return;
      this.end();
      this.resolve();
    });
  }

  private renewLater(): void {
    this.later(RENEW_MS, () => {
      this.look();
      if (this.state !== "held") return;
      try {
        this.write();
      } catch {
        // The others will take it away, if they can.
      }
      this.renewLater();
    });
  }

  private lost(why: string): void {
    this.end();
    this.reject(new DOMException(why, "AbortError"));
  }

  private end(): void {
    this.state = "over";
    this.off?.();
    this.environment.clearTimeout(this.timer);
    if (!this.mine) return;
    try {
      this.storage.removeItem(this.key);
    } catch {
      // It runs out.
    }
  }

  private get mine(): boolean {
    return this.read().owner === this.owner;
  }

  private read(): { owner: string | null; until: number } {
    try {
      const stored: unknown = JSON.parse(this.storage.getItem(this.key) ?? "null");
      const { owner, until } = (stored ?? {}) as Record<string, unknown>;
      if (typeof owner === "string" && typeof until === "number") return { owner, until };
    } catch {
      // As if there was none.
    }
    return { owner: null, until: 0 };
  }

  private write(): void {
    const lease = { owner: this.owner, until: this.environment.now() + LEASE_MS };
    this.storage.setItem(this.key, JSON.stringify(lease));
  }

  private later(ms: number, run: () => void): void {
    this.environment.clearTimeout(this.timer);
    this.timer = this.environment.setTimeout(run, ms);
  }
}
