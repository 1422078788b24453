import { expect, test, vi } from "vitest";
import { EventBus, eventBus } from "../src/bus.js";

function heard(bus: EventBus, name: string): unknown[] {
  const all: unknown[] = [];
  bus.on(name, (data) => all.push(data));
  return all;
}

test("a handler hears its name, a prefix what begins with it, and * everything", () => {
  const bus = new EventBus();
  const [exact, prefix, deep, all, other] = ["a.b.c", "a.*", "a.b.*", "*", "a"].map((name) => heard(bus, name));
  bus.emit("a.b.c", 1);
  bus.emit("a.x", 2);
  bus.emit("ab.c", 3);
  bus.emit("a", 4);
  expect({ exact, prefix, deep, all, other }).toEqual({
    exact: [1],
    prefix: [1, 2],
    deep: [1],
    all: [1, 2, 3, 4],
    other: [4],
  });
});

test("a handler is told the event's name, id and timestamp", () => {
  const bus = new EventBus();
  const handler = vi.fn();
  bus.on("*", handler);
  bus.emit("a", { x: 1 }, { id: "1-0", timestamp: 5 });
  bus.emit("*");
  expect(handler.mock.calls).toEqual([
    [{ x: 1 }, { event: "a", id: "1-0", timestamp: 5 }],
    [undefined, { event: "*" }],
  ]);
});

test("off ends what on and once began, and so does the function that they return", () => {
  const bus = new EventBus();
  const handler = vi.fn();
  const end = bus.on("a", handler);
  bus.once("a", handler);
  bus.off("a", handler);
  bus.off("b", handler);
  bus.on("a", handler)();
  end();
  bus.emit("a");
  expect(handler).not.toHaveBeenCalled();
});

test("once hears one event, even if its handler emits the same", () => {
  const bus = new EventBus();
  const handler = vi.fn(() => bus.emit("a"));
  bus.once("a", handler);
  bus.emit("a");
  bus.emit("a");
  expect(handler).toHaveBeenCalledOnce();
});

test("a handler that throws is logged, and the others are called", () => {
  const bus = new EventBus();
  const error = vi.spyOn(console, "error").mockImplementation(() => {});
  bus.on("a", () => {
    throw new Error("mistake");
  });
  const others = heard(bus, "a");
  bus.emit("a", 1);
  expect(others).toEqual([1]);
  expect(error).toHaveBeenCalledWith("[EventBus] a handler of a failed on a:", new Error("mistake"));
  error.mockRestore();
});

test("a handler that is added during an event hears the next one, one that is removed does not hear it any more", () => {
  const bus = new EventBus();
  const calls: string[] = [];
  bus.on("a", () => {
    removed();
    bus.on("a", () => calls.push("added"));
  });
  const removed = bus.on("a", () => calls.push("removed"));
  bus.emit("a");
  expect(calls).toEqual([]);
  bus.emit("a");
  expect(calls).toEqual(["added"]);
});

test("debug logs each event with the prefix [EventBus]", () => {
  const info = vi.spyOn(console, "info").mockImplementation(() => {});
  new EventBus().emit("quiet");
  const bus = new EventBus({ debug: true });
  bus.emit("a", { x: 1 });
  expect(info.mock.calls).toEqual([["[EventBus]", "a", { x: 1 }]]);
  expect(eventBus).toBeInstanceOf(EventBus);
  info.mockRestore();
});
