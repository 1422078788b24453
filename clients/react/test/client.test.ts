import { describe, expect, test, vi } from "vitest";
import { SSEClient } from "../src/client.js";
import { browserEnvironment } from "../src/environment.js";
import { client, news, STALE } from "./clients.js";
import { World } from "./world.js";

const LOST = 'system.connectionLost {"reason":"error"}';

/** A page without other tabs, connected. */
async function open(options: Parameters<typeof client>[1] = {}) {
  const world = new World();
  const { server } = world;
  const tab = world.tab();
  const page = client(tab, { share: false, ...options });
  await world.advance();
  news(page);
  return { world, server, tab, page };
}

describe("events", () => {
  test("come to the bus in order, with id and timestamp", async () => {
    const { world, server, page } = await open();
    const metas: unknown[] = [];
    page.bus.on("estimate.created", (_, meta) => metas.push(meta));
    expect(page.getSnapshot()).toMatchObject({ status: "open", attempt: 0, leader: true });
    const id = server.publish("estimate.created", { estimate_id: 1 });
    server.publish("estimate.deleted", null);
    await world.advance();
    expect(news(page)).toEqual(['estimate.created {"estimate_id":1}', "estimate.deleted null"]);
    expect(metas).toEqual([{ event: "estimate.created", id, timestamp: world.now / 1000 }]);
  });

  test("the first stream names no id, and the page is told that it may be stale", async () => {
    const world = new World();
    const page = client(world.tab(), { share: false, url: "/events/?a=1", token: "a+b/c" });
    await world.advance();
    expect(world.server.sources.map(({ url }) => url)).toEqual(["/events/?a=1&token=a%2Bb%2Fc"]);
    expect(page.heard).toEqual(['connected {"message":"SSE connection established"}', STALE]);
  });

  test("keepalives and connected are events too", async () => {
    const { world, page } = await open();
    const keepalives = vi.fn();
    page.bus.on("keepalive", keepalives);
    await world.advance(60_000);
    expect(keepalives).toHaveBeenCalledTimes(2);
  });

  test("what is no event is logged and skipped", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const { world, server, page } = await open();
    const malformed = ["", "{", "null", "7", "[]", '{"data":1}', '{"event":7}', '{"event":""}'];
    for (const data of malformed) server.open[0]?.raw(data);
    server.publish("after", 1);
    await world.advance();
    expect(news(page)).toEqual(["after 1"]);
    expect(warn.mock.calls.map(([, data]) => data)).toEqual(malformed);
    warn.mockRestore();
  });

  test("an event that was seen before is dropped", async () => {
    const { world, server, page } = await open();
    const id = server.publish("a", 1);
    server.publish("a", 2);
    server.open[0]?.send({ event: "a", data: 1 }, id);
    await world.advance();
    expect(news(page)).toEqual(["a 1", "a 2"]);
  });

  test("a server that gives no ids is listened to all the same", async () => {
    const world = new World();
    world.server.answer = (source) => source.send({ event: "connected" });
    const page = client(world.tab(), { share: false });
    await world.advance();
    for (const n of [1, 1]) world.server.sources[0]?.send({ event: "a", data: n });
    await world.advance();
    expect(news(page)).toEqual([STALE, "a 1", "a 1"]);
    world.server.sources[0]?.break();
    await world.advance(3000);
    expect(news(page)).toEqual([LOST, 'system.connectionRestored {"resumed":false,"downMs":3000}', STALE]);
  });

  test("a handler may stop the client", async () => {
    const { world, server, page } = await open();
    page.bus.on("a", () => page.stop());
    server.publish("a", 1);
    server.publish("a", 2);
    await world.advance();
    expect(news(page)).toEqual(["a 1"]);
    expect(page.getSnapshot().status).toBe("idle");
  });
});

describe("a lost stream", () => {
  test("is opened anew after 3 s and up to 1 s more, and resumes without a gap", async () => {
    const { world, server, page } = await open();
    const id = server.publish("a", 1);
    await world.advance();
    world.random = () => 0.5;
    server.break();
    await world.advance();
    expect(page.getSnapshot()).toMatchObject({ status: "waiting", attempt: 1 });
    server.publish("a", 2);
    await world.advance(3499);
    expect(server.sources).toHaveLength(1);
    await world.advance(1);
    expect(server.sources[1]?.from).toBe(id);
    expect(news(page)).toEqual(["a 1", LOST, 'system.connectionRestored {"resumed":true,"downMs":3500}', "a 2"]);
    expect(page.getSnapshot()).toMatchObject({ status: "open", attempt: 0 });
  });

  test("resumes from the id of connected if there was no event yet", async () => {
    const { world, server, page } = await open();
    server.break();
    server.publish("a", 1);
    await world.advance(3000);
    expect(news(page).slice(1)).toEqual(['system.connectionRestored {"resumed":true,"downMs":3000}', "a 1"]);
  });

  test("is tried five times, then it is lost, then once a minute while the tab is shown", async () => {
    const { world, server, page } = await open();
    server.mode = "down";
    server.break();
    const attempts: [number, string, number][] = [];
    for (let s = 0; s < 150; s++) {
      await world.advance(1000);
      const { status, attempt } = page.getSnapshot();
      const tries = server.sources.length - 1;
      if (tries > attempts.length) attempts.push([s + 1, status, attempt]);
    }
    expect(attempts).toEqual([
      [3, "waiting", 2],
      [6, "waiting", 3],
      [9, "waiting", 4],
      [12, "waiting", 5],
      [15, "lost", 5],
      [75, "lost", 5],
      [135, "lost", 5],
    ]);
    expect(news(page)).toEqual([LOST]);
    server.mode = "ok";
    await world.advance(60_000);
    expect(news(page)).toEqual(['system.connectionRestored {"resumed":true,"downMs":195000}']);
  });

  test("is not tried once a minute while the tab is hidden, but at once when it is shown", async () => {
    const { world, server, tab, page } = await open();
    server.mode = "down";
    server.break();
    await world.advance(15_000);
    tab.hide();
    await world.advance(300_000);
    expect(server.sources).toHaveLength(6);
    tab.show();
    await world.advance();
    expect(page.getSnapshot()).toMatchObject({ status: "waiting", attempt: 1 });
    server.mode = "ok";
    await world.advance(3000);
    expect(page.getSnapshot().status).toBe("open");
  });

  test("is not tried any more with slowMs 0, until somebody asks for it", async () => {
    const { world, server, page } = await open({ slowMs: 0, attempts: 1 });
    server.mode = "down";
    server.break();
    await world.advance(600_000);
    expect(server.sources).toHaveLength(2);
    server.mode = "ok";
    page.reconnect();
    await world.advance();
    expect(page.getSnapshot().status).toBe("open");
  });

  test("counts on if the one before was short, and anew if it was stable", async () => {
    const { world, server, page } = await open();
    server.break();
    await world.advance(3000);
    await world.advance(9999);
    server.break();
    await world.advance();
    expect(page.getSnapshot().attempt).toBe(2);
    await world.advance(3000);
    await world.advance(10_000);
    server.break();
    await world.advance();
    expect(page.getSnapshot().attempt).toBe(1);
  });

  test("an overload, 200 and the end, is an attempt like any other and no connection", async () => {
    const { world, server, page } = await open({ attempts: 2 });
    server.mode = "down";
    server.break();
    await world.advance(6000);
    expect(page.statuses).toEqual(["connecting", "open", "waiting", "connecting", "waiting", "connecting", "lost"]);
    expect(news(page)).toEqual([LOST]);
  });

  test("an answer that is no stream and no denial is an attempt", async () => {
    const { world, server, page } = await open({ attempts: 2 });
    server.mode = 503;
    server.break();
    await world.advance(6000);
    expect(server.heads).toHaveLength(2);
    expect(server.heads[0]).toBe(server.sources[1]?.url);
    expect(page.getSnapshot().status).toBe("lost");
  });

  test("a question for the status that is not answered, or fails, is given up", async () => {
    const { world, server, tab, page } = await open({ attempts: 2 });
    tab.environment.fetch = (_, { signal }) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("aborted"))));
    server.mode = 503;
    server.break();
    await world.advance(3000 + 9999);
    expect(page.getSnapshot().status).toBe("connecting");
    await world.advance(1);
    expect(page.getSnapshot()).toMatchObject({ status: "waiting", attempt: 2 });
  });

  test("the page may be offline: that is not counted, and it is tried as soon as it is online", async () => {
    const { world, server, tab, page } = await open();
    server.mode = "down";
    tab.setOnline(false);
    await world.advance();
    expect(news(page)).toEqual(['system.connectionLost {"reason":"offline"}']);
    expect(page.getSnapshot()).toMatchObject({ status: "waiting", attempt: 0 });
    expect(tab.streams).toEqual([]);
    await world.advance(59_999);
    expect(server.sources).toHaveLength(1);
    await world.advance(1); // the browser may be mistaken
    expect(server.sources).toHaveLength(2);
    expect(page.getSnapshot()).toMatchObject({ status: "waiting", attempt: 0 });
    server.mode = "ok";
    tab.setOnline(true);
    await world.advance();
    expect(news(page)).toEqual(['system.connectionRestored {"resumed":true,"downMs":60000}']);
  });

  test("shown offline, it is tried too; online while it is connecting or open, nothing happens", async () => {
    const { world, server, tab, page } = await open({ slowMs: 0 });
    tab.setOnline(false);
    await world.advance(1000);
    server.mode = "mute";
    tab.show();
    tab.setOnline(true);
    await world.advance();
    expect(server.sources).toHaveLength(2);
    expect(page.getSnapshot().status).toBe("connecting");
  });
});

describe("silence", () => {
  test("of 75 s ends a stream, and the keepalives prevent it", async () => {
    const { world, server, page } = await open();
    await world.advance(300_000);
    expect(server.sources).toHaveLength(1);
    for (const source of server.sources) source.send = () => {};
    await world.advance(75_000);
    expect(news(page)).toEqual(['system.connectionLost {"reason":"silence"}']);
    await world.advance(3000);
    expect(page.getSnapshot().status).toBe("open");
  });

  test("is noticed when the tab is shown, although its timers slept", async () => {
    const { world, tab, page } = await open();
    tab.freeze();
    await world.advance(3_600_000);
    tab.thaw({ forgetful: true });
    expect(page.getSnapshot().status).toBe("open");
    tab.show();
    expect(news(page)).toEqual(['system.connectionLost {"reason":"silence"}']);
    await world.advance(3000);
    expect(page.getSnapshot().status).toBe("open");
  });

  test("counts from the start for a server that takes the request and says nothing", async () => {
    const world = new World();
    world.server.mode = "mute";
    const page = client(world.tab(), { share: false });
    await world.advance(75_000);
    expect(page.getSnapshot()).toMatchObject({ status: "waiting", attempt: 1 });
    expect(page.heard).toEqual([]);
  });

  test("is noticed although the clock was set back", async () => {
    const { world, server, tab, page } = await open();
    tab.clock = -3_600_000;
    for (const source of server.sources) source.send = () => {};
    await world.advance(150_000);
    expect(news(page)).toContain('system.connectionLost {"reason":"silence"}');
  });
});

describe("the last id", () => {
  const key = "sse-react:7:/api/v1/sse/events/";

  test("is stored, and a page that is loaded later resumes from it", async () => {
    const { world, server, tab, page } = await open();
    server.publish("a", 1);
    await world.advance(250);
    tab.close();
    server.publish("a", 2);
    await world.advance(1000);
    const next = client(world.tab(), { share: false });
    await world.advance();
    expect(news(next)).toEqual(["a 2"]);
    expect(news(page)).toEqual(["a 1"]);
  });

  test("is stored at once when the page is left, or the client stopped", async () => {
    const { server, world, tab, page } = await open();
    const first = server.publish("a", 1);
    await world.advance();
    tab.fire("suspend");
    expect(world.stored.get(key)).toContain(first);
    tab.fire("resume");
    const second = server.publish("a", 2);
    await world.advance();
    page.stop();
    expect(world.stored.get(key)).toContain(second);
  });

  test("is stored after the handlers were called", async () => {
    const { world, server, page } = await open();
    await world.advance(250);
    const stored: unknown[] = [];
    page.bus.on("a", () => stored.push(world.stored.get(key)));
    const id = server.publish("a", 1);
    await world.advance(250);
    expect(stored[0]).not.toContain(id);
    expect(world.stored.get(key)).toContain(id);
  });

  test("is each user's own", async () => {
    const { world, server, page } = await open();
    server.publish("a", 1);
    await world.advance(250);
    page.stop();
    await world.advance(1000);
    client(world.tab(), { share: false, user: 8 });
    await world.advance();
    expect(server.sources.at(-1)?.from).toBeNull();
  });

  test("is kept in memory where there is no storage, also from stop to start", async () => {
    const { world, server, page } = await open({ storage: null });
    const id = server.publish("a", 1);
    await world.advance();
    page.stop();
    page.start();
    await world.advance();
    expect(server.sources.at(-1)?.from).toBe(id);
    expect(world.stored.size).toBe(0);
  });

  test("is forgotten on a resync: smaller ids are new then", async () => {
    const { world, server, page } = await open();
    server.publish("a", 1);
    await world.advance();
    server.break();
    server.skew = -60_000; // its clock was set back, and its history lost
    server.forget();
    await world.advance(3000);
    const id = server.publish("a", 2);
    await world.advance(250);
    expect(news(page).slice(1)).toEqual([
      LOST,
      'system.connectionRestored {"resumed":false,"downMs":3000}',
      'system.resync {"reason":"too_old"}',
      "a 2",
    ]);
    expect(page.getSnapshot().lastEventId).toBe(id);
    expect(world.stored.get(key)).toContain(id);
  });

  test("is asked for again, after a resync without an event, by none", async () => {
    const { world, server, page } = await open();
    server.forget();
    server.break();
    await world.advance(3000);
    expect(page.getSnapshot().lastEventId).toBeNull();
    await world.advance(250);
    expect(world.stored.size).toBe(0);
    server.break();
    await world.advance(3000);
    expect(server.sources.at(-1)?.from).toBeNull();
    expect(news(page).at(-1)).toBe(STALE);
  });
});

describe("a token that is not taken", () => {
  test.each([401, 403])("%i: denied, and no more attempts", async (status) => {
    const world = new World();
    world.server.refused.set("T", status);
    const page = client(world.tab(), { share: false });
    await world.advance(600_000);
    expect(world.server.sources).toHaveLength(1);
    expect(page.heard).toEqual(["auth.denied {}"]);
    expect(page.statuses).toEqual(["connecting", "denied"]);
    expect(page.getSnapshot().leader).toBe(false);
  });

  test("is not tried again when it is set again, but another one is", async () => {
    const world = new World();
    world.server.refused.set("T", 401);
    const page = client(world.tab(), { share: false });
    await world.advance();
    page.setToken("T");
    await world.advance();
    expect(world.server.sources).toHaveLength(1);
    page.setToken("U");
    await world.advance();
    expect(page.getSnapshot().status).toBe("open");
  });

  test("ends an open stream's session: lost, then denied", async () => {
    const { world, server, page } = await open();
    server.refused.set("T", 401);
    server.break();
    await world.advance(3000);
    expect(news(page)).toEqual([LOST, "auth.denied {}"]);
  });

  test("of a function is asked for once more, and the new one is taken", async () => {
    const world = new World();
    world.server.refused.set("first", 401);
    const token = vi.fn(async (reason: string) => reason);
    const page = client(world.tab(), { share: false, token });
    await world.advance();
    expect(token.mock.calls).toEqual([["first"], ["denied"]]);
    expect(page.getSnapshot().status).toBe("open");
    world.server.break();
    await world.advance(3000);
    expect(token).toHaveBeenLastCalledWith("retry");
  });

  test.each([
    ["the same one", "old", 1],
    ["another one that is denied", "bad", 2],
    ["none", null, 1],
    ["an empty one", "", 1],
  ])("of a function that has %s then: denied", async (_, second, streams) => {
    const world = new World();
    for (const token of ["old", "bad"]) world.server.refused.set(token, 403);
    const page = client(world.tab(), { share: false, token: (reason) => (reason === "first" ? "old" : second) });
    await world.advance(600_000);
    expect(world.server.sources).toHaveLength(streams);
    expect(page.heard).toEqual(["auth.denied {}"]);
  });

  test("a token function that fails is a failed attempt, and is called anew for each", async () => {
    const world = new World();
    const token = vi.fn(() => (token.mock.calls.length === 1 ? Promise.reject(new Error("500")) : "good"));
    const page = client(world.tab(), { share: false, token });
    await world.advance();
    expect(page.getSnapshot()).toMatchObject({ status: "waiting", attempt: 1 });
    await world.advance(3000);
    expect(page.getSnapshot().status).toBe("open");
  });

  test("a new string is connected with at once, a new function when a token is needed", async () => {
    const { world, server, page } = await open();
    page.setToken("U");
    await world.advance();
    expect(server.open.map(({ token }) => token)).toEqual(["U"]);
    page.setToken(() => "V");
    await world.advance();
    expect(server.open.map(({ token }) => token)).toEqual(["U"]);
    server.break();
    await world.advance(3000);
    expect(server.open.map(({ token }) => token)).toEqual(["V"]);
    expect(news(page).filter((line) => line.includes("stale"))).toEqual([]);
  });
});

describe("a session that is revoked", () => {
  test("with a string is over", async () => {
    const { world, server, page } = await open();
    server.revoke("T");
    await world.advance(600_000);
    expect(server.sources).toHaveLength(1);
    expect(news(page)).toEqual(['system.connectionLost {"reason":"revoked"}', "auth.revoked {}"]);
    expect(page.getSnapshot().status).toBe("revoked");
  });

  test("with a function goes on with a fresh token", async () => {
    const token = vi.fn((reason: string) => reason);
    const { world, server, page } = await open({ token });
    server.revoke("first");
    server.publish("a", 1);
    await world.advance(3000);
    expect(token.mock.calls).toEqual([["first"], ["revoked"]]);
    expect(news(page)).toEqual([
      'system.connectionLost {"reason":"revoked"}',
      'system.connectionRestored {"resumed":true,"downMs":3000}',
      "a 1",
    ]);
  });

  test.each([
    ["the same token", "first", 1],
    ["one that is denied", "bad", 2],
    ["none", null, 1],
  ])("with a function that has %s then is over", async (_, second, streams) => {
    const { world, server, page } = await open({ token: (reason) => (reason === "first" ? "first" : second) });
    server.refused.set("bad", 401);
    server.revoke("first");
    await world.advance(600_000);
    expect(server.sources).toHaveLength(streams);
    expect(page.getSnapshot().status).toBe("revoked");
    expect(news(page).at(-1)).toBe("auth.revoked {}");
  });

  test("with a function that fails then is tried again in that way", async () => {
    const token = vi.fn((reason: string) => {
      if (token.mock.calls.length === 2) throw new Error("Django is down");
      return reason;
    });
    const { world, server, page } = await open({ token });
    server.revoke("first");
    await world.advance(6000);
    expect(token.mock.calls).toEqual([["first"], ["revoked"], ["revoked"]]);
    expect(page.getSnapshot().status).toBe("open");
  });
});

describe("start and stop", () => {
  test("a start that is stopped at once, and started again, opens one stream", async () => {
    const world = new World();
    const tab = world.tab();
    const page = client(tab);
    page.stop();
    page.start();
    page.start();
    await world.advance();
    expect(world.server.sources).toHaveLength(1);
    page.stop();
    page.stop();
    await world.advance(600_000);
    expect(tab.streams).toEqual([]);
    expect(world.channels.size).toBe(0);
    expect(tab.listening()).toBe(0);
    expect(page.getSnapshot().status).toBe("idle");
  });

  test("a handler that stops it hears no more, whatever it handles", async () => {
    for (const event of ["connected", "system.connectionLost", "system.connectionRestored", "system.stale"]) {
      const world = new World();
      const page = client(world.tab(), { share: false, storage: null });
      const heard: string[] = [];
      page.bus.on("*", (_, meta) => heard.push(meta.event));
      page.bus.on(event, () => page.stop());
      await world.advance(1000);
      world.server.break();
      await world.advance(10_000);
      expect(heard.at(-1)).toBe(event);
      expect(world.server.open).toEqual([]);
    }
  });

  test("nobody is told of a change when nothing has changed", async () => {
    const { world, page } = await open();
    const changed = vi.fn();
    page.subscribe(changed);
    await world.advance(60_000);
    expect(changed).not.toHaveBeenCalled();
  });

  test("a stop while a token, a status or a retry is waited for leaves nothing open", async () => {
    for (const wait of ["token", "head", "retry"]) {
      const world = new World();
      let answer = (_: string) => {};
      const tab = world.tab();
      const token = () => (wait === "token" ? new Promise<string>((resolve) => (answer = resolve)) : "T");
      if (wait === "head") {
        world.server.mode = 401;
        tab.environment.fetch = () => new Promise((resolve) => (answer = () => resolve({ status: 401 })));
      }
      if (wait === "retry") world.server.mode = "down";
      const page = client(tab, { share: false, token });
      await world.advance(10);
      page.stop();
      answer("T");
      await world.advance(60_000);
      expect(tab.streams).toEqual([]);
      expect(page.heard).toEqual([]);
      expect(page.getSnapshot().status).toBe("idle");
    }
  });

  test("a token that fails after the stop is of no account", async () => {
    const world = new World();
    let fail = () => {};
    const token = () => new Promise<string>((_, reject) => (fail = () => reject(new Error("too late"))));
    const page = client(world.tab(), { share: false, token });
    await world.advance();
    page.stop();
    fail();
    await world.advance(60_000);
    expect(page.getSnapshot().status).toBe("idle");
  });

  test("reconnect replaces an open stream, without a loss, and does nothing on an idle client", async () => {
    const { world, server, page } = await open();
    page.reconnect();
    server.publish("a", 1);
    await world.advance();
    expect(server.sources).toHaveLength(2);
    expect(server.open).toHaveLength(1);
    expect(news(page)).toEqual(["a 1"]);
    page.stop();
    page.reconnect();
    await world.advance();
    expect(server.open).toHaveLength(0);
  });

  test("a page that goes to the back/forward cache, or is frozen, lets go, and comes back", async () => {
    const { world, server, tab, page } = await open();
    tab.fire("suspend");
    tab.fire("suspend");
    await world.advance();
    expect(tab.streams).toEqual([]);
    server.publish("a", 1);
    await world.advance(100_000);
    tab.fire("resume");
    tab.fire("resume");
    await world.advance();
    expect(news(page)).toEqual(["a 1"]);
    tab.fire("suspend");
    tab.show();
    await world.advance();
    expect(tab.streams).toHaveLength(1);
  });

  test("on a server it stays idle", () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const page = new SSEClient({ user: 7, token: "T" });
    expect(browserEnvironment().EventSource).toBeUndefined();
    page.start();
    return Promise.resolve().then(() => {
      expect(page.getSnapshot().status).toBe("idle");
      expect(warn).toHaveBeenCalledWith("[SSE] there is no EventSource here: no events");
      warn.mockRestore();
    });
  });

  test("debug logs with the prefix [SSE], and never the token", async () => {
    const info = vi.spyOn(console, "info").mockImplementation(() => {});
    const { world, server } = await open({ debug: true, token: "secret" });
    server.publish("a", 1);
    await world.advance();
    const lines = info.mock.calls.map((line) => JSON.stringify(line));
    expect(lines.length).toBeGreaterThan(2);
    for (const line of lines) {
      expect(line).toMatch(/^\["\[SSE\]/);
      expect(line).not.toContain("secret");
    }
    info.mockRestore();
  });
});

describe("another user on the same page", () => {
  /** Both have an id in storage, from before this page was loaded. */
  async function login() {
    const world = new World();
    for (const user of [1, 2]) {
      const id = world.server.publish("before", user);
      world.stored.set(`sse-react:${user}:/api/v1/sse/events/`, JSON.stringify({ id, at: world.now - 1 }));
    }
    return { world, tab: world.tab() };
  }

  test("does not resume: what the page shows was kept fresh for somebody else; nor does the first who comes back", async () => {
    const { world, tab } = await login();
    for (const [user, told] of [
      [1, ["before 2"]],
      [2, [STALE]],
      [1, [STALE]],
    ] as const) {
      const page = client(tab, { user });
      await world.advance();
      expect(news(page)).toEqual(told);
      page.stop();
      world.stored.set("sse-react:1:/api/v1/sse/events/", JSON.stringify({ id: world.server.events[0]?.id, at: 0 }));
    }
  });

  test("resumes after the page was loaded anew", async () => {
    const { world } = await login();
    for (const user of [1, 2]) {
      const page = client(world.tab(), { user });
      await world.advance();
      expect(page.heard).not.toContain(STALE);
    }
  });
});

describe("events of the site with names like the protocol's", () => {
  test.each(["system.maintenance", "auth.login", "system.resync"])("%s is replayed once only", async (event) => {
    const { world, server, page } = await open();
    server.publish("estimate.created", 1);
    const id = server.publish(event, { reason: "lost" });
    await world.advance();
    expect(news(page)).toEqual(["estimate.created 1", `${event} {"reason":"lost"}`]);
    expect(page.getSnapshot().lastEventId).toBe(id);
    server.open[0]?.send({ event: "estimate.created", data: 1 }, server.events[0]?.id);
    server.open[0]?.send({ event, data: { reason: "lost" } }, id);
    server.break();
    await world.advance(3000);
    expect(news(page).slice(1)).toEqual(['system.connectionRestored {"resumed":true,"downMs":3000}']);
    expect(server.sources.at(-1)?.from).toBe(id);
  });
});

describe("a token function that never answers", () => {
  test("has failed after 10 s, and what it says later is of no account", async () => {
    const answers: ((token: string) => void)[] = [];
    const token = () => new Promise<string>((resolve) => void answers.push(resolve));
    const { world, server, page } = await open({ token });
    await world.advance(9999);
    expect(page.getSnapshot().status).toBe("connecting");
    await world.advance(1);
    expect(page.getSnapshot()).toMatchObject({ status: "waiting", attempt: 1 });
    answers[0]?.("late");
    await world.advance(3000);
    answers[1]?.("T");
    await world.advance(20_000);
    expect(server.sources.map(({ token }) => token)).toEqual(["T"]);
    expect(page.getSnapshot().status).toBe("open");
  });

  test("is not waited for when the client is stopped", async () => {
    const { world, page } = await open({ token: () => new Promise<string>(() => {}) });
    page.stop();
    expect(world.pending).toBe(0);
  });
});

test.each(["denied", "revoked"])("reconnect after %s asks the server about the same token again", async (status) => {
  const { world, server, page } = await open();
  if (status === "revoked") server.revoke("T");
  else {
    server.refused.set("T", 401);
    server.break();
  }
  await world.advance(3000);
  expect(page.getSnapshot().status).toBe(status);
  server.refused.clear();
  page.reconnect();
  await world.advance();
  expect(page.getSnapshot().status).toBe("open");
});
