import { afterEach, expect, test, vi } from "vitest";
import { browserEnvironment, isBrowser, type PageEvent } from "../../src/environment.js";

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

test("the environment of a browser is that browser", async () => {
  const locks = { request: vi.fn() };
  class EventSource {}
  class BroadcastChannel {}
  vi.stubGlobal("EventSource", EventSource);
  vi.stubGlobal("BroadcastChannel", BroadcastChannel);
  vi.stubGlobal("navigator", { locks, onLine: false });
  vi.stubGlobal("fetch", async (...args: unknown[]) => ({ status: args.length }));
  const environment = browserEnvironment();
  expect(environment).toMatchObject({ EventSource, BroadcastChannel, locks });
  expect(isBrowser(environment)).toBe(true);
  expect(environment.storage).toBe(localStorage);
  expect(environment.online()).toBe(false);
  expect(environment.visible()).toBe(true);
  expect(environment.loadedAt).toBeLessThanOrEqual(environment.now());
  expect(environment.random()).toBeLessThan(1);
  const signal = new AbortController().signal;
  expect(await environment.fetch("/", { method: "HEAD", cache: "no-store", signal })).toEqual({ status: 2 });
  const late = vi.fn();
  environment.clearTimeout(environment.setTimeout(late, 0));
  await new Promise<void>((done) => void environment.setTimeout(done, 1));
  expect(late).not.toHaveBeenCalled();
});

test("one without most of it is one, too", () => {
  vi.stubGlobal("EventSource", undefined);
  vi.stubGlobal("BroadcastChannel", undefined);
  vi.stubGlobal("navigator", {});
  vi.spyOn(globalThis, "localStorage", "get").mockImplementation(() => {
    throw new DOMException("denied", "SecurityError");
  });
  const environment = browserEnvironment();
  expect(isBrowser(environment)).toBe(false);
  expect(environment.storage).toBeUndefined();
  expect(environment.locks).toBeUndefined();
  expect(environment.online()).toBe(true);
});

test("what the browser tells the page is told on", () => {
  const heard: PageEvent[] = [];
  const events: PageEvent[] = ["shown", "online", "offline", "suspend", "resume"];
  const off = events.map((event) => browserEnvironment().on(event, () => heard.push(event)));
  const visibility = vi.spyOn(document, "visibilityState", "get");
  const fire = (): PageEvent[] => {
    visibility.mockReturnValue("hidden");
    document.dispatchEvent(new Event("visibilitychange"));
    visibility.mockReturnValue("visible");
    document.dispatchEvent(new Event("visibilitychange"));
    for (const type of ["online", "offline", "pagehide"]) window.dispatchEvent(new Event(type));
    for (const persisted of [false, true]) {
      window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted }));
    }
    for (const type of ["freeze", "resume"]) document.dispatchEvent(new Event(type));
    return heard.splice(0);
  };
  expect(fire()).toEqual(["shown", "online", "offline", "suspend", "resume", "suspend", "resume"]);
  for (const remove of off) remove();
  expect(fire()).toEqual([]);
});
