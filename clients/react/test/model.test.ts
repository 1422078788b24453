import { expect, test } from "vitest";
import { EventBus } from "../src/bus.js";
import { SSEClient } from "../src/client.js";
import { type Tab, World } from "./world.js";

/** SSE_SEED=5 tries another one, SSE_STEPS=100000 more. */
const SEED = Number(process.env.SSE_SEED ?? 1);
const STEPS = Number(process.env.SSE_STEPS ?? 3000);

/** mulberry32: the same numbers each time. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * A page that shows what it has loaded, plus what events have told it, and loads all anew when it is told that it may
 * have missed something.
 */
class Page {
  readonly client: SSEClient;
  readonly doubled: unknown[] = [];
  suspended = false;
  lost = false;
  private shows: Set<unknown>;
  private readonly dispatched = new Set<unknown>();

  constructor(
    readonly tab: Tab,
    published: readonly unknown[],
  ) {
    this.shows = new Set(published);
    const bus = new EventBus();
    bus.on("event", (n) => {
      if (this.dispatched.has(n)) this.doubled.push(n);
      this.dispatched.add(n);
      this.shows.add(n);
    });
    for (const name of ["system.stale", "system.resync"]) bus.on(name, () => (this.shows = new Set(published)));
    bus.on("system.connectionLost", () => {
      expect(this.lost).toBe(false);
      this.lost = true;
    });
    bus.on("system.connectionRestored", () => {
      expect(this.lost).toBe(true);
      this.lost = false;
    });
    this.client = new SSEClient({ user: 7, token: "T", bus, environment: tab.environment });
  }

  missing(published: readonly unknown[]): unknown[] {
    return published.filter((n) => !this.shows.has(n));
  }
}

test.each([
  ["Web Locks", true],
  ["leases instead of Web Locks", false],
])(
  `no page misses an event or hears one twice, whatever tabs and server do: %s (seed ${SEED})`,
  async (_, secure) => {
    const random = generator(SEED);
    const world = new World();
    const { server } = world;
    world.random = random;
    world.latency = () => (random() < 0.2 ? random() * 50 : 0);
    const published: number[] = [];
    let pages: Page[] = [];
    const pick = () => pages[Math.floor(random() * pages.length)];
    const away = (page: Page | undefined): page is Page => page !== undefined && !page.suspended;

    const steps: [weight: number, step: () => void][] = [
      [
        40,
        () => {
          published.push(published.length);
          server.publish("event", published.length - 1);
        },
      ],
      [
        4,
        () => {
          if (pages.length >= 5) return;
          const page = new Page(world.tab(), published);
          if (!secure) delete page.tab.environment.locks;
          pages.push(page);
          world.later(page.tab, random() * 300, () => page.client.start());
        },
      ],
      [
        3,
        () => {
          const page = pick();
          if (!page) return;
          if (random() < 0.5) page.tab.fire("suspend");
          page.tab.close();
          pages = pages.filter((other) => other !== page);
        },
      ],
      [3, () => pick()?.tab.freeze()],
      [6, () => pick()?.tab.thaw({ forgetful: random() < 0.3 })],
      [3, () => pick()?.tab.hide()],
      [6, () => pick()?.tab.show()],
      [
        3,
        () => {
          const page = pick();
          if (!away(page) || page.tab.frozen) return;
          page.suspended = true;
          page.tab.fire("suspend");
        },
      ],
      [
        5,
        () => {
          const page = pick();
          if (!page?.suspended || page.tab.frozen) return;
          page.suspended = false;
          page.tab.fire("resume");
        },
      ],
      [2, () => pick()?.client.reconnect()],
      [3, () => server.break()],
      [2, () => server.be("down")],
      [5, () => server.be("ok")],
      [1, () => server.forget()],
      [1, () => pick()?.tab.setOnline(false)],
      [3, () => pick()?.tab.setOnline(true)],
    ];
    const total = steps.reduce((sum, [weight]) => sum + weight, 0);
    const step = () => {
      let at = random() * total;
      for (const [weight, run] of steps) {
        at -= weight;
        if (at < 0) return run();
      }
    };
    const settle = async () => {
      server.mode = "ok";
      for (const page of pages) {
        page.tab.thaw();
        page.suspended = false;
        page.tab.fire("resume");
        page.tab.setOnline(true);
        page.tab.show();
      }
      await world.advance(100_000);
      for (const page of pages) {
        const { status } = page.client.getSnapshot();
        const state = { status, lost: page.lost, missing: page.missing(published), doubled: page.doubled };
        expect(state).toEqual({ status: "open", lost: false, missing: [], doubled: [] });
      }
      expect(server.open.filter(({ tab }) => !tab.closed)).toHaveLength(pages.length > 0 ? 1 : 0);
    };

    for (let n = 1; n <= STEPS; n++) {
      step();
      await world.advance(random() < 0.03 ? random() * 90_000 : random() * 100);
      if (n % 50 === 0) await settle();
    }
  },
  600_000,
);
