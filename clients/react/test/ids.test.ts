import { describe, expect, test } from "vitest";
import { isNewer, LastId } from "../src/ids.js";
import { World } from "./world.js";

test.each([
  ["2-0", "1-9", true],
  ["10-0", "9-0", true], // as numbers, not as text
  ["1-10", "1-9", true],
  ["1-9", "1-9", false],
  ["1-8", "1-9", false],
  ["1-0", "2-0", false],
  ["1-0", null, true],
  ["b", "a", true], // of another form: not the same, so it is another event
  ["a", "a", false],
])("%s came after %s: %s", (id, newest, expected) => {
  expect(isNewer(id, newest)).toBe(expected);
});

test("of the ids before the newest, the last thousand are remembered", () => {
  const ids = new LastId(new World().tab().environment, "");
  for (let n = 0; n <= 1000; n++) expect(ids.isRepeat(`1-${n}`)).toBe(false);
  ids.newest = null; // as when a leader is followed that is behind
  expect(ids.isRepeat("1-1")).toBe(true);
  expect(ids.isRepeat("1-0")).toBe(false);
});

describe("the stored id", () => {
  const key = "sse-react:7:/events/";

  test("is written at most every 250 ms, and at once when asked", async () => {
    const world = new World();
    const ids = new LastId(world.tab().environment, key);
    ids.newest = "1-0";
    ids.saveSoon();
    await world.advance(100);
    expect(world.stored.size).toBe(0);
    ids.newest = "2-0";
    ids.saveSoon();
    await world.advance(150);
    expect(JSON.parse(world.stored.get(key) ?? "")).toMatchObject({ id: "2-0" });
    ids.newest = "3-0";
    ids.saveSoon();
    ids.save();
    expect(JSON.parse(world.stored.get(key) ?? "")).toMatchObject({ id: "3-0" });
    ids.newest = null;
    ids.saveSoon();
    ids.save();
    expect(world.stored.has(key)).toBe(false);
  });

  test.each([
    ["of before this page began to load is taken", { id: "1-0", at: -1 }, "1-0"],
    ["of later, which another tab has written, is not", { id: "1-0", at: 1 }, null],
    ["that is no record is not", "1-0", null],
    ["that is null is not", null, null],
  ])("%s", (_, record, expected) => {
    const world = new World();
    const stored = record && typeof record === "object" ? { ...record, at: world.now + record.at } : record;
    world.stored.set(key, JSON.stringify(stored));
    const ids = new LastId(world.tab().environment, key);
    ids.load();
    expect(ids.newest).toBe(expected);
  });

  test("is not taken by a page that has one in memory", () => {
    const world = new World();
    world.stored.set(key, JSON.stringify({ id: "9-0", at: 0 }));
    const ids = new LastId(world.tab().environment, key);
    ids.newest = "5-0";
    ids.load();
    expect(ids.newest).toBe("5-0");
  });

  test.each([
    ["that is not JSON", { getItem: () => "{", setItem: () => {}, removeItem: () => {} }],
    ["that is not there", undefined],
    ["that is not wanted", null],
    [
      "that throws",
      {
        getItem: () => {
          throw new Error("private mode");
        },
        setItem: () => {
          throw new Error("full");
        },
        removeItem: () => {},
      },
    ],
  ])("in a storage %s is done without", (_, storage) => {
    const { environment } = new World().tab();
    delete environment.storage;
    const ids = new LastId(environment, key, storage);
    ids.load();
    expect(ids.newest).toBeNull();
    ids.newest = "1-0";
    ids.saveSoon();
    ids.save();
    ids.load();
    expect(ids.newest).toBe("1-0");
  });
});
