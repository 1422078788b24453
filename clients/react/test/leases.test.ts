import { describe, expect, test } from "vitest";
import { Leases } from "../src/leases.js";
import { client, news } from "./clients.js";
import { type Tab, World } from "./world.js";

const KEY = "lock:lease";

function world(): World {
  const world = new World();
  let n = 0;
  world.random = () => (n++ % 100) / 100;
  return world;
}

/** A tab asks for the lock; `log` says what becomes of it. */
function ask(tab: Tab, options: { signal?: AbortSignal; steal?: boolean } = {}) {
  const log: string[] = [];
  let release = () => {};
  const { storage } = tab.environment;
  const held = () => {
    log.push("held");
    return new Promise<void>((resolve) => {
      release = resolve;
    });
  };
  if (storage) {
    new Leases(tab.environment, storage).request("lock", options, held).then(
      () => log.push("released"),
      (error: Error) => log.push(error.name),
    );
  }
  return { log, release: () => release() };
}

describe("a lease", () => {
  test("is given to one of several who ask at the same moment, and then to the next", async () => {
    const browser = world();
    const all = [1, 2, 3].map(() => ask(browser.tab()));
    const holding = () => all.filter(({ log }) => log.at(-1) === "held");
    for (let n = 0; n < 3; n++) {
      await browser.advance(1000);
      expect(holding()).toHaveLength(1);
      holding()[0]?.release();
    }
    await browser.advance(1000);
    expect(all.map(({ log }) => log)).toEqual(Array(3).fill(["held", "released"]));
    expect(browser.stored.has(KEY)).toBe(false);
    expect(browser.pending).toBe(0);
    expect(browser.tabs.map((tab) => tab.listening())).toEqual([0, 0, 0]);
  });

  test("is renewed, and runs out 75 s after its tab is gone", async () => {
    const browser = world();
    const [one, other] = [browser.tab(), browser.tab()];
    const first = ask(one);
    await browser.advance(1000);
    const second = ask(other);
    await browser.advance(600_000);
    expect([first.log, second.log]).toEqual([["held"], []]);
    one.close();
    await browser.advance(50_000);
    expect(second.log).toEqual([]);
    await browser.advance(25_200);
    expect(second.log).toEqual(["held"]);
  });

  test("that is stolen is lost to the old owner at once", async () => {
    const browser = world();
    const first = ask(browser.tab());
    await browser.advance(1000);
    const second = ask(browser.tab(), { steal: true });
    await browser.advance(1000);
    expect([first.log, second.log]).toEqual([["held", "AbortError"], ["held"]]);
    first.release();
    await browser.advance(1000);
    expect(first.log).toHaveLength(2);
    second.release();
    await browser.advance();
    expect(second.log).toEqual(["held", "released"]);
  });

  test("or when it is to be renewed, if it was not told", async () => {
    const browser = world();
    const first = ask(browser.tab());
    await browser.advance(1000);
    browser.stored.set(KEY, JSON.stringify({ owner: "somebody", until: browser.now + 75_000 }));
    await browser.advance(20_000);
    expect(first.log).toEqual(["held", "AbortError"]);
  });

  test("of two thieves one gets it", async () => {
    const browser = world();
    const thieves = [1, 2].map(() => ask(browser.tab(), { steal: true }));
    await browser.advance(1000);
    expect(thieves.map(({ log }) => log).sort()).toEqual([["AbortError"], ["held"]]);
  });

  test("is not waited for any more after an abort, and is not left behind", async () => {
    const browser = world();
    const waiting = new AbortController();
    const verifying = new AbortController();
    const first = ask(browser.tab(), { signal: verifying.signal });
    const second = ask(browser.tab(), { signal: waiting.signal });
    waiting.abort();
    verifying.abort();
    await browser.advance(100_000);
    expect([first.log, second.log]).toEqual([["AbortError"], ["AbortError"]]);
    expect(browser.stored.size).toBe(0);
  });

  test("of before the clock was set back is no lease, nor is what cannot be read", async () => {
    for (const stored of ["{", "7", JSON.stringify({ owner: "o", until: Date.UTC(2027, 0) })]) {
      const browser = world();
      browser.stored.set(KEY, stored);
      const { log } = ask(browser.tab());
      await browser.advance(1000);
      expect(log).toEqual(["held"]);
    }
  });

  test("that cannot be stored is refused; one that is held stays as it is", async () => {
    const browser = world();
    const [one, other] = [browser.tab(), browser.tab()];
    const first = ask(one);
    await browser.advance(1000);
    const full = () => {
      throw new DOMException("full", "QuotaExceededError");
    };
    Object.assign(one.environment.storage ?? {}, { setItem: full, removeItem: full });
    Object.assign(other.environment.storage ?? {}, { setItem: full });
    const second = ask(other, { steal: true });
    await browser.advance(60_000);
    expect([first.log, second.log]).toEqual([["held"], ["QuotaExceededError"]]);
    first.release();
    await browser.advance();
    expect(first.log).toEqual(["held", "released"]);
  });
});

describe("seven tabs of a browser without Web Locks", () => {
  async function seven() {
    const browser = world();
    const all = [];
    for (let n = 0; n < 7; n++) {
      const tab = browser.tab();
      delete tab.environment.locks;
      all.push({ tab, page: client(tab) });
      await browser.advance(n % 2 === 0 ? 0 : 300); // in pairs
    }
    await browser.advance(3000);
    const leader = all.find(({ page }) => page.getSnapshot().leader);
    if (!leader) throw new Error("nobody leads");
    const others = all.filter((one) => one !== leader);
    for (const { page } of all) news(page);
    return { browser, server: browser.server, all, leader, others };
  }

  test("have one stream, and all hear each event once", async () => {
    const { browser, server, all } = await seven();
    expect(server.open).toHaveLength(1);
    server.publish("a", 1);
    await browser.advance(300_000);
    expect(all.map(({ page }) => news(page))).toEqual(Array(7).fill(["a 1"]));
    expect(server.open).toHaveLength(1);
  });

  test("when its tab is left, another has it a moment later, without a gap", async () => {
    const { browser, server, leader, others } = await seven();
    leader.tab.fire("suspend");
    server.publish("a", 1);
    await browser.advance(500);
    expect(server.open).toHaveLength(1);
    expect(others.map(({ page }) => news(page))).toEqual(Array(6).fill(["a 1"]));
  });

  test("when its tab crashes, one that is shown does not wait for the lease to run out", async () => {
    const { browser, server, leader, others } = await seven();
    leader.tab.close();
    server.publish("a", 1);
    others[0]?.tab.show();
    await browser.advance(5000);
    expect(server.open.filter(({ tab }) => !tab.closed)).toHaveLength(1);
    expect(others.map(({ page }) => news(page))).toEqual(Array(6).fill(["a 1"]));
  });

  test("whose storage is full have a stream each", async () => {
    const browser = world();
    const tab = browser.tab();
    delete tab.environment.locks;
    tab.environment.storage = {
      ...tab.environment.storage,
      getItem: () => null,
      removeItem: () => {},
      setItem: () => {
        throw new DOMException("full", "QuotaExceededError");
      },
    };
    const page = client(tab);
    await browser.advance(1000);
    expect(page.getSnapshot()).toMatchObject({ status: "open", leader: true });
  });
});
