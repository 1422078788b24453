import { act, cleanup, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { EventBus } from "../../src/bus.js";
import {
  type NotificationMap,
  SSEConnection,
  type SSENotificationsOptions,
  useSSENotifications,
} from "../../src/index.js";

const shown: FakeNotification[] = [];

class FakeNotification {
  static permission: NotificationPermission = "default";
  static requestPermission = vi.fn(async () => {
    FakeNotification.permission = "granted";
    return FakeNotification.permission;
  });
  onclick: (() => void) | null = null;
  close = vi.fn();

  constructor(
    readonly title: string,
    readonly options: NotificationOptions,
  ) {
    shown.push(this);
  }
}

let hidden = true;

beforeEach(() => {
  shown.length = 0;
  hidden = true;
  FakeNotification.permission = "default";
  vi.stubGlobal("Notification", FakeNotification);
  vi.spyOn(document, "hidden", "get").mockImplementation(() => hidden);
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** Whether another tab is shown is asked for first. */
const settle = () => act(async () => {});

const MAP: NotificationMap = {
  "estimate.created": (data) => ({
    title: "Новая смета",
    body: data.estimate_number,
    url: "#/estimates/1",
    icon: "/i",
  }),
  "project.*": (_, { event }) => (event === "project.deleted" ? null : { title: event }),
};

function setup(map = MAP, options?: SSENotificationsOptions) {
  const bus = new EventBus();
  const Inside = () => {
    const { permission, request } = useSSENotifications(map, options);
    return (
      <button type="button" onClick={() => void request()}>
        {permission}
      </button>
    );
  };
  render(
    <SSEConnection user={null} token={null} bus={bus} indicator={false}>
      <Inside />
      <Inside />
    </SSEConnection>,
  );
  return bus;
}

test("nothing is shown, and nobody asked, until the user wants it; then both buttons know", async () => {
  const bus = setup();
  bus.emit("estimate.created", {});
  expect(shown).toEqual([]);
  const buttons = screen.getAllByRole("button", { name: "default" });
  await act(async () => buttons[0]?.click());
  expect(screen.getAllByRole("button", { name: "granted" })).toHaveLength(2);
  bus.emit("estimate.created", {});
  await settle();
  expect(shown).toHaveLength(2);
});

test("an event is shown while the tab is hidden, tagged with its id, so that several tabs show one", async () => {
  FakeNotification.permission = "granted";
  const bus = setup();
  bus.emit("estimate.created", { estimate_number: "С-1" }, { id: "5-0" });
  bus.emit("project.created", {});
  bus.emit("project.deleted", {});
  await settle();
  hidden = false;
  bus.emit("estimate.created", {}, { id: "6-0" });
  await settle();
  const data = { url: "#/estimates/1" };
  expect(shown.filter((_, n) => n % 2 === 0)).toMatchObject([
    { title: "Новая смета", options: { body: "С-1", tag: "5-0", icon: "/i", data } },
    { title: "project.created", options: { tag: "project.created" } },
  ]);
});

test("a click shows the page, and goes to the url", async () => {
  FakeNotification.permission = "granted";
  const focus = vi.spyOn(window, "focus").mockImplementation(() => {});
  const bus = setup();
  bus.emit("project.created", {});
  await settle();
  shown[0]?.onclick?.();
  expect(location.hash).toBe("");
  bus.emit("estimate.created", {});
  await settle();
  shown.at(-1)?.onclick?.();
  expect(focus).toHaveBeenCalledTimes(2);
  expect(location.hash).toBe("#/estimates/1");
  expect(shown.at(-1)?.close).toHaveBeenCalled();
  location.hash = "";
});

test("a permission that is changed in the settings is seen when the user is back", () => {
  setup();
  FakeNotification.permission = "denied";
  act(() => void document.dispatchEvent(new Event("visibilitychange")));
  expect(screen.getAllByRole("button", { name: "denied" })).toHaveLength(2);
});

test("a browser without notifications says unsupported", async () => {
  vi.unstubAllGlobals();
  const bus = setup();
  const [button] = screen.getAllByRole("button", { name: "unsupported" });
  await act(async () => button?.click());
  bus.emit("estimate.created", {});
  expect(shown).toEqual([]);
});

test("Android: the service worker shows it, or it is logged once that there is none", async () => {
  const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  const showNotification = vi.fn();
  const getRegistration = vi.fn(async (): Promise<unknown> => ({ showNotification }));
  vi.stubGlobal(
    "Notification",
    Object.assign(
      function Notification() {
        throw new TypeError("Illegal constructor");
      },
      { permission: "granted" },
    ),
  );
  vi.stubGlobal("navigator", { serviceWorker: { getRegistration } });
  const bus = setup({ "estimate.created": () => ({ title: "New" }) });
  bus.emit("estimate.created", {}, { id: "7-0" });
  await act(async () => {});
  expect(showNotification).toHaveBeenCalledWith("New", { tag: "7-0", data: { url: undefined } });
  getRegistration.mockResolvedValue(undefined);
  bus.emit("estimate.created", {});
  await act(async () => {});
  vi.stubGlobal("navigator", {});
  bus.emit("estimate.created", {});
  await act(async () => {});
  expect(warn).toHaveBeenCalledOnce();
});

test("a click goes to the url in the page's own way, if it has one", async () => {
  FakeNotification.permission = "granted";
  vi.spyOn(window, "focus").mockImplementation(() => {});
  const onClick = vi.fn();
  const bus = setup(MAP, { onClick });
  bus.emit("estimate.created", {});
  await settle();
  shown[0]?.onclick?.();
  expect(onClick).toHaveBeenCalledExactlyOnceWith("#/estimates/1");
  expect(location.hash).toBe("");
});

test("what happened more than two minutes ago is not shown: the replay after a night", async () => {
  FakeNotification.permission = "granted";
  const bus = setup();
  const now = Math.floor(Date.now() / 1000);
  bus.emit("project.created", {}, { timestamp: now - 125 });
  await settle();
  expect(shown).toHaveLength(0);
  bus.emit("project.created", {}, { timestamp: now - 110 });
  await settle();
  expect(shown).toHaveLength(2);
});

describe("a burst", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const titles = () => shown.filter((_, n) => n % 2 === 0).map(({ title }) => title);

  test.each([
    [undefined, "297 more notifications"],
    [{ more: (n: number) => `ещё ${n}` }, "ещё 297"],
  ])("shows three, and ten seconds later how many more there were", async (options, said) => {
    FakeNotification.permission = "granted";
    const bus = setup(MAP, options);
    for (let n = 0; n < 300; n++) bus.emit("project.created", {}, { id: `${n}-0` });
    await act(() => vi.advanceTimersByTimeAsync(9999));
    expect(titles()).toEqual(Array(3).fill("project.created"));
    await act(() => vi.advanceTimersByTimeAsync(1));
    expect(titles().slice(3)).toEqual([said]);
    expect(shown.at(-1)?.options.tag).toBe("sse-react:more");
    bus.emit("project.created", {}, { id: "300-0" });
    await act(() => vi.advanceTimersByTimeAsync(20_000));
    expect(titles().slice(4)).toEqual(["project.created"]);
  });

  test("one more is one", async () => {
    FakeNotification.permission = "granted";
    const bus = setup();
    for (let n = 0; n < 4; n++) bus.emit("project.created", {}, { id: `${n}-0` });
    await act(() => vi.advanceTimersByTimeAsync(10_000));
    expect(titles().at(-1)).toBe("1 more notification");
  });
});

describe("with Web Locks", () => {
  let held: { name: string }[] = [];
  const request = vi.fn();
  const query = vi.fn();

  beforeEach(() => {
    held = [];
    query.mockImplementation(async () => ({ held: [...held] }));
    request.mockImplementation(async (name: string, options: LockOptions, callback: () => Promise<void>) => {
      expect(options).toEqual({ mode: "shared" });
      const lock = { name };
      held.push(lock);
      await callback();
      held.splice(held.indexOf(lock), 1);
    });
    vi.stubGlobal("navigator", { locks: { request, query } });
    FakeNotification.permission = "granted";
  });

  test("nothing is shown while another tab of the site is", async () => {
    const bus = setup();
    held = [{ name: "sse-react:shown" }];
    bus.emit("project.created", {});
    await settle();
    expect(shown).toEqual([]);
    held = [{ name: "something else" }];
    bus.emit("project.created", {});
    await settle();
    expect(shown).toHaveLength(2);
  });

  test("a tab says so to the others as long as it is shown, and there", async () => {
    hidden = false;
    setup();
    expect(held).toHaveLength(2);
    const become = async (value: boolean, target: EventTarget, event: string) => {
      hidden = value;
      act(() => void target.dispatchEvent(new Event(event)));
      await settle();
      return held.length;
    };
    expect(await become(true, document, "visibilitychange")).toBe(0);
    expect(await become(false, document, "visibilitychange")).toBe(2);
    expect(await become(false, document, "visibilitychange")).toBe(2);
    expect(await become(false, window, "pagehide")).toBe(0);
    expect(await become(false, window, "pageshow")).toBe(2);
    cleanup();
    await settle();
    expect(held).toEqual([]);
  });

  test("that the browser refuses, notifications are shown as without", async () => {
    hidden = false;
    request.mockImplementation(() => {
      throw new DOMException("insecure", "SecurityError");
    });
    query.mockRejectedValue(new DOMException("insecure", "SecurityError"));
    const bus = setup();
    hidden = true;
    bus.emit("project.created", {});
    await settle();
    expect(shown).toHaveLength(2);
  });
});
