import { act, cleanup, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { EventBus } from "../../src/bus.js";
import { type NotificationMap, SSEConnection, useSSENotifications } from "../../src/index.js";

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

const MAP: NotificationMap = {
  "estimate.created": (data) => ({
    title: "Новая смета",
    body: data.estimate_number,
    url: "#/estimates/1",
    icon: "/i",
  }),
  "project.*": (_, { event }) => (event === "project.deleted" ? null : { title: event }),
};

function setup(map = MAP) {
  const bus = new EventBus();
  const Inside = () => {
    const { permission, request } = useSSENotifications(map);
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
  expect(shown).toHaveLength(2);
});

test("an event is shown while the tab is hidden, tagged with its id, so that several tabs show one", () => {
  FakeNotification.permission = "granted";
  const bus = setup();
  bus.emit("estimate.created", { estimate_number: "С-1" }, { id: "5-0" });
  bus.emit("project.created", {});
  bus.emit("project.deleted", {});
  hidden = false;
  bus.emit("estimate.created", {}, { id: "6-0" });
  const data = { url: "#/estimates/1" };
  expect(shown.filter((_, n) => n % 2 === 0)).toMatchObject([
    { title: "Новая смета", options: { body: "С-1", tag: "5-0", icon: "/i", data } },
    { title: "project.created", options: { tag: "project.created" } },
  ]);
});

test("a click shows the page, and goes to the url", () => {
  FakeNotification.permission = "granted";
  const focus = vi.spyOn(window, "focus").mockImplementation(() => {});
  const bus = setup();
  bus.emit("project.created", {});
  shown[0]?.onclick?.();
  expect(location.hash).toBe("");
  bus.emit("estimate.created", {});
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
