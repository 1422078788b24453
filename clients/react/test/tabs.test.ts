import { describe, expect, test, vi } from "vitest";
import { client, MISSED, news, STALE, type TestClient } from "./clients.js";
import { type Tab, World } from "./world.js";

/** So many tabs of one user, connected; the first is the leader. */
async function tabs(count: number, options: Parameters<typeof client>[1] = {}) {
  const world = new World();
  const all = [];
  for (let n = 0; n < count; n++) {
    const tab = world.tab();
    all.push({ tab, page: client(tab, options) });
    await world.advance(10);
  }
  for (const { page } of all) news(page);
  return { world, server: world.server, all, pages: all.map(({ page }) => page) };
}

const statuses = (pages: TestClient[]) => pages.map((page) => page.getSnapshot().status);
const leaders = (pages: TestClient[]) => pages.map((page) => page.getSnapshot().leader);

/** Publishes an event, and says which pages heard it, and what else they heard since the last time. */
async function heard(world: World, pages: TestClient[]): Promise<string[][]> {
  world.server.publish("event", "");
  await world.advance();
  return pages.map((page) => news(page).map((line) => line.split(" ")[0] ?? ""));
}

describe("several tabs", () => {
  test("have one stream, and all hear each event once", async () => {
    const { world, server, pages } = await tabs(7);
    expect(server.sources).toHaveLength(1);
    expect(leaders(pages)).toEqual([true, false, false, false, false, false, false]);
    expect(statuses(pages)).toEqual(Array(7).fill("open"));
    expect(await heard(world, pages)).toEqual(Array(7).fill(["event"]));
    const ids = new Set(pages.map((page) => page.getSnapshot().lastEventId));
    expect(ids.size).toBe(1);
  });

  test.each([
    [
      "locks and storage",
      (world: World) => world.tabs.map((tab) => delete tab.environment.locks && delete tab.environment.storage),
    ],
    ["channels", (world: World) => world.tabs.map((tab) => delete tab.environment.BroadcastChannel)],
  ])("of a browser without %s have a stream each", async (_, remove) => {
    const world = new World();
    const both = [world.tab(), world.tab()];
    remove(world);
    const pages = both.map((tab) => client(tab));
    await world.advance();
    expect(world.server.open).toHaveLength(2);
    expect(leaders(pages)).toEqual([true, true]);
    pages[0]?.reconnect();
    await world.advance();
    expect(world.server.open).toHaveLength(2);
  });

  test("whose locks the browser refuses have a stream each", async () => {
    const world = new World();
    const tab = world.tab();
    tab.environment.locks = { request: async () => Promise.reject(new DOMException("no", "SecurityError")) };
    const page = client(tab);
    await world.advance();
    expect(page.getSnapshot()).toMatchObject({ status: "open", leader: true });
  });

  test("of several users, or urls, have nothing to do with each other", async () => {
    const world = new World();
    const pages = [{}, { user: 8 }, { url: "/other/" }].map((options) => client(world.tab(), options));
    await world.advance();
    expect(world.server.open).toHaveLength(3);
    expect(leaders(pages)).toEqual([true, true, true]);
  });

  test("that cannot be told go on without", async () => {
    const { world, all, pages } = await tabs(2);
    for (const channel of world.channels) {
      if (channel.tab === all[0]?.tab) channel.postMessage = () => expect.fail("DataCloneError");
    }
    expect(await heard(world, pages)).toEqual([["event"], []]);
    vi.restoreAllMocks();
    expect(await heard(world, pages)).toEqual([["event"], []]);
  });

  test("all hear of a lost connection, and that it is restored", async () => {
    const { world, server, pages } = await tabs(2);
    server.break();
    await world.advance();
    expect(statuses(pages)).toEqual(["waiting", "waiting"]);
    await world.advance(3000);
    expect(statuses(pages)).toEqual(["open", "open"]);
    const told = [
      'system.connectionLost {"reason":"error"}',
      'system.connectionRestored {"resumed":true,"downMs":3000}',
    ];
    expect(pages.map(news)).toEqual([told, told]);
  });

  test("all hear of a resync, and take the ids that follow", async () => {
    const { world, server, pages } = await tabs(2);
    server.skew = -60_000;
    server.forget();
    server.break();
    await world.advance(3000);
    const [one, other] = await heard(world, pages);
    expect(one?.slice(2)).toEqual(["system.resync", "event"]);
    expect(other).toEqual(one);
  });
});

describe("a new tab", () => {
  test("may have loaded before what the leader has seen: it is told that it may be stale", async () => {
    const { world, pages } = await tabs(1);
    const tab = world.tab();
    await heard(world, pages);
    await world.advance(1000);
    const page = client(tab);
    await world.advance();
    expect(page.heard).toEqual([STALE]);
    expect(page.getSnapshot()).toMatchObject({ status: "open", leader: false });
    expect(page.getSnapshot().lastEventId).toBe(pages[0]?.getSnapshot().lastEventId);
  });

  test("is not told so if nothing has happened since it began to load", async () => {
    const { world, pages } = await tabs(1);
    await heard(world, pages);
    await world.advance(60_000);
    const page = client(world.tab());
    await world.advance();
    expect(page.heard).toEqual([]);
    expect(await heard(world, [page])).toEqual([["event"]]);
  });

  test("that becomes the leader does not resume behind what another tab saw after it began to load", async () => {
    const { world, all, pages } = await tabs(1);
    const tab = world.tab();
    await world.advance(10);
    await heard(world, pages);
    await world.advance(1000);
    all[0]?.tab.close();
    const page = client(tab);
    await world.advance();
    expect(news(page)).toEqual([STALE]);
  });
});

describe("the leader", () => {
  test.each(["closes", "crashes", "goes to the back/forward cache", "stops"])(
    "%s: the next tab takes over, and nothing is lost or said to be lost",
    async (how) => {
      const { world, server, all, pages } = await tabs(3);
      const [first] = all;
      if (how === "stops") first?.page.stop();
      else {
        if (how !== "crashes") first?.tab.fire("suspend");
        if (how !== "goes to the back/forward cache") first?.tab.close();
      }
      const others = pages.slice(1);
      expect(await heard(world, others)).toEqual([["event"], ["event"]]);
      expect(leaders(others)).toEqual([true, false]);
      expect(statuses(others)).toEqual(["open", "open"]);
      expect(server.open).toHaveLength(1);
      if (how === "closes" || how === "crashes") return;
      // And back again, as a follower.
      first?.tab.fire("resume");
      first?.page.start();
      await world.advance();
      expect(leaders(pages)).toEqual([false, true, false]);
      expect(news(pages[0] as TestClient)).toEqual([how === "stops" ? STALE : MISSED]);
      expect(await heard(world, pages)).toEqual([["event"], ["event"], ["event"]]);
    },
  );

  test("comes back from the back/forward cache and has missed nothing: it is not told so", async () => {
    const { world, all, pages } = await tabs(2);
    all[0]?.tab.fire("suspend");
    await world.advance(1000);
    all[0]?.tab.fire("resume");
    await world.advance();
    expect(pages.map(news)).toEqual([[], []]);
    expect(await heard(world, pages)).toEqual([["event"], ["event"]]);
  });

  test("hangs: a tab that is shown takes its place after the silence, and it follows when it wakes", async () => {
    const { world, server, all, pages } = await tabs(2);
    all[0]?.tab.freeze();
    server.publish("event", 1);
    await world.advance(76_989);
    expect(server.sources).toHaveLength(1);
    await world.advance(1);
    expect(leaders(pages)).toEqual([true, true]); // the first does not know yet
    expect(news(pages[1] as TestClient)).toEqual(["event 1"]);
    all[0]?.tab.thaw();
    await world.advance();
    expect(leaders(pages)).toEqual([false, true]);
    expect(server.open).toHaveLength(1);
    expect(news(pages[0] as TestClient)).toEqual(["event 1"]);
    expect(await heard(world, pages)).toEqual([["event"], ["event"]]);
    all[1]?.tab.close();
    await world.advance();
    expect(leaders(pages.slice(0, 1))).toEqual([true]);
  });

  test("hangs, and two tabs take its place at once: one of them has it, and nothing goes on when all are stopped", async () => {
    const { world, server, all, pages } = await tabs(3);
    all[0]?.tab.freeze();
    await world.advance(80_000);
    all[0]?.tab.thaw();
    await world.advance();
    expect(leaders(pages).filter((leader) => leader)).toHaveLength(1);
    expect(server.open).toHaveLength(1);
    for (const page of pages) news(page);
    expect(await heard(world, pages)).toEqual([["event"], ["event"], ["event"]]);
    await world.advance(300_000);
    for (const page of pages) page.stop();
    await world.advance(100_000);
    expect(world.pending).toBe(0);
  });

  test("hangs, and what it says when it wakes is not listened to any more", async () => {
    const { world, server, all, pages } = await tabs(3);
    all[2]?.tab.hide();
    all[0]?.tab.freeze();
    for (const n of [1, 2, 3]) server.publish("event", n);
    await world.advance(80_000);
    for (const n of [4, 5]) server.publish("event", n);
    await world.advance(1000);
    all[0]?.tab.thaw();
    await world.advance();
    const all5 = [1, 2, 3, 4, 5].map((n) => `event ${n}`);
    expect(pages.map(news)).toEqual([all5, all5, all5]);
    expect(leaders(pages)).toEqual([false, true, false]);
  });

  test("has told the others of an event before it handles it itself", async () => {
    const { world, server, all, pages } = await tabs(2);
    pages[0]?.bus.on("event", () => {
      server.forget();
      all[0]?.tab.close();
    });
    server.publish("event", 1);
    await world.advance();
    expect(news(pages[1] as TestClient)).toEqual(["event 1", 'system.resync {"reason":"too_old"}']);
  });

  test("goes after the clock was set back: the others listen to the next one", async () => {
    const { world, all, pages } = await tabs(3);
    for (const { tab } of all) tab.clock = -3_600_000;
    all[0]?.tab.close();
    await world.advance();
    expect(await heard(world, pages.slice(1))).toEqual([["event"], ["event"]]);
  });

  test("is followed by one that is behind: who is further hears nothing twice and has missed nothing", async () => {
    const { world, all, pages } = await tabs(4);
    all[2]?.tab.freeze();
    all[0]?.tab.close();
    await heard(world, pages);
    await world.advance(10);
    all[1]?.tab.close();
    all[2]?.tab.thaw({ forgetful: true });
    await world.advance();
    expect(leaders(pages.slice(2))).toEqual([true, false]);
    expect(pages.slice(2).map(news)).toEqual([['event ""'], []]);
    expect(await heard(world, pages.slice(2))).toEqual([["event"], ["event"]]);
  });

  test("hangs, and its stream breaks meanwhile: it has missed something, and is told so when it wakes", async () => {
    const { world, server, all, pages } = await tabs(2);
    all[0]?.tab.freeze();
    for (const source of server.open) source.close();
    server.publish("event", 1);
    await world.advance(80_000);
    all[0]?.tab.thaw({ forgetful: true });
    await world.advance();
    expect(leaders(pages)).toEqual([false, true]);
    expect(pages.map(news)).toEqual([
      ['system.connectionLost {"reason":"silence"}', 'system.connectionRestored {"resumed":false,"downMs":0}', MISSED],
      ["event 1"],
    ]);
    expect(await heard(world, pages)).toEqual([["event"], ["event"]]);
  });

  test("hangs: a tab that is shown again takes its place after two seconds", async () => {
    const { world, all, pages } = await tabs(2);
    all[1]?.tab.hide();
    all[0]?.tab.freeze();
    await world.advance(600_000);
    expect(leaders(pages)).toEqual([true, false]);
    all[1]?.tab.show();
    await world.advance(1999);
    expect(leaders(pages)).toEqual([true, false]);
    await world.advance(1);
    expect(leaders(pages)).toEqual([true, true]);
    expect(statuses(pages.slice(1))).toEqual(["open"]);
  });

  test("hangs, and a tab that is hidden again before the two seconds are over leaves it in its place", async () => {
    const { world, all, pages } = await tabs(2);
    all[0]?.tab.freeze();
    all[1]?.tab.show();
    await world.advance(1000);
    all[1]?.tab.hide();
    await world.advance(600_000);
    expect(leaders(pages)).toEqual([true, false]);
  });

  test("is there: a tab that is shown takes nothing from it", async () => {
    const { world, server, all, pages } = await tabs(2);
    all[1]?.tab.hide();
    await world.advance(100_000);
    all[1]?.tab.show();
    await world.advance(100_000);
    expect(leaders(pages)).toEqual([true, false]);
    expect(server.sources).toHaveLength(1);
  });

  test("goes, and the lock falls to a tab that is frozen: one that is shown takes it after two seconds", async () => {
    const { world, server, all, pages } = await tabs(3);
    all[1]?.tab.freeze();
    all[0]?.page.stop();
    server.publish("event", 1);
    await world.advance(2000);
    expect(news(pages[2] as TestClient)).toEqual(["event 1"]);
    expect(leaders(pages.slice(2))).toEqual([true]);
    all[1]?.tab.thaw();
    await world.advance();
    expect(leaders(pages)).toEqual([false, false, true]);
    expect(server.open).toHaveLength(1);
    expect(news(pages[1] as TestClient)).toEqual(["event 1"]);
  });

  test("is tried at once by reconnect in any tab, and by showing one, when the connection is lost", async () => {
    const { world, server, all, pages } = await tabs(2);
    all[0]?.tab.hide();
    server.mode = "down";
    server.break();
    await world.advance(60_000);
    expect(statuses(pages)).toEqual(["lost", "lost"]);
    const before = server.sources.length;
    pages[1]?.reconnect();
    await world.advance();
    expect(server.sources).toHaveLength(before + 1);
    expect(statuses(pages)).toEqual(["waiting", "waiting"]);
    await world.advance(60_000);
    server.mode = "ok";
    all[1]?.tab.show();
    await world.advance();
    expect(statuses(pages)).toEqual(["open", "open"]);
    expect(leaders(pages)).toEqual([true, false]);
  });

  test("is hidden and lost: a tab that is shown has it tried now and then", async () => {
    const { world, server, all, pages } = await tabs(2);
    all[0]?.tab.hide();
    server.mode = "down";
    server.break();
    await world.advance(60_000);
    server.mode = "ok";
    await world.advance(150_000);
    expect(statuses(pages)).toEqual(["open", "open"]);
    expect(leaders(pages)).toEqual([true, false]);
  });

  test("lost the connection, and goes: the next one says when it is restored", async () => {
    const { world, server, all, pages } = await tabs(2);
    server.mode = "down";
    server.break();
    await world.advance(1000);
    server.mode = "ok";
    all[0]?.tab.close();
    await world.advance();
    expect(news(pages[1] as TestClient)).toEqual([
      'system.connectionLost {"reason":"error"}',
      'system.connectionRestored {"resumed":true,"downMs":1000}',
    ]);
  });
});

describe("a tab that follows", () => {
  test("goes to the back/forward cache and comes back while nothing happens: it follows as before", async () => {
    const { world, all, pages } = await tabs(2);
    all[1]?.tab.fire("suspend");
    await world.advance(1000);
    all[1]?.tab.fire("resume");
    await world.advance();
    expect(statuses(pages)).toEqual(["open", "open"]);
    expect(pages.map(news)).toEqual([[], []]);
    expect(await heard(world, pages)).toEqual([["event"], ["event"]]);
  });

  test("was frozen, and its messages were thrown away: it is told that it missed something", async () => {
    const { world, all, pages } = await tabs(2);
    all[1]?.tab.freeze();
    await heard(world, pages);
    await world.advance(1000);
    all[1]?.tab.thaw({ forgetful: true });
    expect(await heard(world, pages)).toEqual([["event"], ["system.stale", "event"]]);
    expect(await heard(world, pages)).toEqual([["event"], ["event"]]);
  });

  test("that is stopped by a handler, while it is told what it missed, hears no more", async () => {
    const { world, server, all, pages } = await tabs(2);
    server.mode = "down";
    server.break();
    await world.advance(100);
    pages[1]?.bus.on("system.connectionRestored", () => pages[1]?.stop());
    all[1]?.tab.fire("suspend");
    server.mode = "ok";
    await world.advance(4000);
    await heard(world, pages);
    all[1]?.tab.fire("resume");
    await world.advance();
    expect(news(pages[1] as TestClient)).toEqual(['system.connectionRestored {"resumed":false,"downMs":4100}']);
    expect(statuses(pages)).toEqual(["open", "idle"]);
  });

  test("was frozen, and has missed a resync: it takes the smaller ids that follow", async () => {
    const { world, server, all, pages } = await tabs(2);
    all[1]?.tab.freeze();
    server.skew = -60_000;
    server.forget();
    server.break();
    await world.advance(4000);
    all[1]?.tab.thaw({ forgetful: true });
    expect((await heard(world, pages))[1]).toEqual(["system.stale", "event"]);
    expect((await heard(world, pages))[1]).toEqual(["event"]);
  });

  test("was frozen while the leader changed: it is told, and follows the new one", async () => {
    const { world, all, pages } = await tabs(3);
    all[2]?.tab.freeze();
    all[0]?.tab.close();
    await heard(world, pages);
    await world.advance(1000);
    all[2]?.tab.thaw({ forgetful: true });
    const [, second, third] = await heard(world, pages);
    expect(second).toEqual(["event"]);
    expect(third).toEqual(["system.stale"]); // which covers the event
    expect((await heard(world, pages))[2]).toEqual(["event"]);
  });

  test("was frozen and then gets all: nothing is missing, nothing is said twice", async () => {
    const { world, all, pages } = await tabs(3);
    all[2]?.tab.freeze();
    await heard(world, pages);
    all[0]?.tab.close();
    await heard(world, pages);
    all[2]?.tab.thaw();
    await world.advance();
    expect(news(pages[2] as TestClient)).toEqual(['event ""', 'event ""']);
  });

  test("asks again, while nothing comes, and stops doing so when it is stopped", async () => {
    const { world, all, server } = await tabs(2);
    all[1]?.page.stop();
    expect([...world.locks.values()].map(({ queue }) => queue.length)).toEqual([0]);
    all[0]?.tab.freeze();
    await world.advance(600_000);
    expect(server.sources).toHaveLength(1);
  });

  test("is stopped while it is about to be the leader: it is not", async () => {
    const { world, server, all } = await tabs(2);
    all[0]?.tab.close();
    all[1]?.page.stop();
    await world.advance(600_000);
    expect(server.open).toEqual([]);
    const next = client(world.tab());
    await world.advance();
    expect(next.getSnapshot().status).toBe("open");
  });
});

describe("a token that is not taken", () => {
  test("is not tried by each tab that has it: all are denied", async () => {
    const { world, server, pages } = await tabs(4);
    server.refused.set("T", 401);
    server.break();
    await world.advance(600_000);
    expect(statuses(pages)).toEqual(Array(4).fill("denied"));
    expect(server.sources).toHaveLength(2);
    expect(pages.map((page) => news(page).at(-1))).toEqual(Array(4).fill("auth.denied {}"));
  });

  test("because it was revoked: all are revoked", async () => {
    const { world, server, pages } = await tabs(3);
    server.revoke("T");
    await world.advance(600_000);
    expect(statuses(pages)).toEqual(Array(3).fill("revoked"));
    expect(server.sources).toHaveLength(1);
    expect(pages.map(news)).toEqual(Array(3).fill(['system.connectionLost {"reason":"revoked"}', "auth.revoked {}"]));
  });

  test("leaves the connection to a tab that has another", async () => {
    const world = new World();
    const pages = ["T", "U", "T", "V"].map((token) => client(world.tab(), { token }));
    await world.advance();
    world.server.revoke("T");
    world.server.refused.set("U", 401);
    await world.advance(10_000);
    expect(statuses(pages)).toEqual(["revoked", "denied", "denied", "open"]);
    expect(world.server.open).toHaveLength(1);
    // Who has another token now is there again.
    for (const page of pages.slice(0, 3)) page.setToken("W");
    await world.advance();
    expect(statuses(pages)).toEqual(Array(4).fill("open"));
    expect(world.server.open.map(({ token }) => token)).toEqual(["V"]);
    for (const page of pages) news(page);
    expect(await heard(world, pages)).toEqual(Array(4).fill(["event"]));
  });
});

describe("a browser that has channels and locks, but refuses them", () => {
  test.each([
    [
      "the channel",
      (tab: Tab) => {
        tab.environment.BroadcastChannel = class {
          onmessage = null;
          constructor() {
            throw new DOMException("insecure", "SecurityError");
          }
          postMessage() {}
          close() {}
        };
      },
    ],
    [
      "the lock",
      (tab: Tab) => {
        tab.environment.locks = {
          request: () => {
            throw new DOMException("insecure", "SecurityError");
          },
        };
      },
    ],
  ])("has a stream in each tab: %s", async (_, refuse) => {
    const world = new World();
    const tab = world.tab();
    refuse(tab);
    const page = client(tab);
    await world.advance();
    expect(page.getSnapshot()).toMatchObject({ status: "open", leader: true });
    page.reconnect();
    page.stop();
    expect(tab.streams).toEqual([]);
  });
});

describe("a clock that is set back by an hour", () => {
  test("does not keep a tab from noticing that the leader hangs", async () => {
    const { world, all, pages } = await tabs(2);
    all[0]?.tab.freeze();
    if (all[1]) all[1].tab.clock = -3_600_000;
    await world.advance(300_000);
    expect(leaders(pages)).toEqual([true, true]);
    expect(pages[1]?.getSnapshot().status).toBe("open");
  });

  test("does not keep a hidden leader from trying again for a tab that is looked at", async () => {
    const { world, server, all, pages } = await tabs(2);
    all[0]?.tab.hide();
    server.be("down");
    server.break();
    await world.advance(120_000);
    expect(statuses(pages)).toEqual(["lost", "lost"]);
    for (const { tab } of all) tab.clock = -3_600_000;
    server.be("ok");
    await world.advance(300_000);
    expect(statuses(pages)).toEqual(["open", "open"]);
  });
});
