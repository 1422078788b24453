import { afterEach, expect, test, vi } from "vitest";
import { EventBus } from "../src/bus.js";
import { type ConsoleTools, installConsole } from "../src/console.js";
import { client } from "./clients.js";
import { World } from "./world.js";

const window = globalThis as unknown as ConsoleTools & Partial<ConsoleTools>;
const info = vi.spyOn(console, "info").mockImplementation(() => {});

afterEach(() => info.mockClear());

test("SSEDemo shows what comes, and how the connection is", async () => {
  const world = new World();
  const page = client(world.tab());
  const remove = installConsole(page.bus, page);
  await world.advance();
  const demo = new window.SSEDemo();
  demo.startListening();
  demo.startListening();
  world.server.publish("estimate.created", { estimate_id: 1 });
  await world.advance();
  expect(info).toHaveBeenCalledWith("[SSE]", "estimate.created", { estimate_id: 1 });
  expect(demo.getStatus()).toMatchObject({ status: "open", leader: true, listening: true, received: 1 });
  demo.stopListening();
  world.server.publish("estimate.created", {});
  await world.advance();
  expect(demo.getStatus()).toMatchObject({ listening: false, received: 1 });
  for (const [prefix] of info.mock.calls) expect(prefix).toMatch(/^\[SSE\]/);
  remove();
});

test("SSETestUtils emits estimates with all their fields, on the bus of this tab", () => {
  const bus = new EventBus();
  const heard: unknown[][] = [];
  bus.on("*", (data, { event, timestamp }) => heard.push([event, data.status, typeof timestamp]));
  const remove = installConsole(bus);
  const estimate = window.SSETestUtils.createTestEstimateEvent({ estimate_id: 5, project_name: "Дом" });
  const people = ["foreman_id", "foreman_name", "creator_id", "creator_name"];
  const names = ["estimate_id", "estimate_number", "project_id", "project_name", ...people, "status", "created_at"];
  expect(Object.keys(estimate)).toEqual(names);
  expect(estimate).toMatchObject({ estimate_id: 5, project_name: "Дом", status: "Черновик" });
  window.SSETestUtils.createTestEstimateEvent();
  window.SSETestUtils.runTestSequence();
  expect(heard).toEqual([
    ["estimate.created", "Черновик", "number"],
    ["estimate.created", "Черновик", "number"],
    ["estimate.created", "Черновик", "number"],
    ["estimate.updated", "На согласовании", "number"],
    ["estimate.deleted", "На согласовании", "number"],
  ]);
  remove();
});

test("what is removed is gone and silent, and does not remove what another has installed", () => {
  const bus = new EventBus();
  const remove = installConsole(bus);
  const demo = new window.SSEDemo();
  demo.startListening();
  expect(demo.getStatus()).toMatchObject({ status: "idle", listening: true });
  const removeOther = installConsole(bus);
  remove();
  expect(demo.getStatus().listening).toBe(false);
  expect(new window.SSEDemo()).toBeTruthy();
  removeOther();
  expect("SSEDemo" in globalThis || "SSETestUtils" in globalThis).toBe(false);
});
