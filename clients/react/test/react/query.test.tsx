import { QueryClient, QueryClientProvider, type QueryKey, useQuery } from "@tanstack/react-query";
import { act, cleanup, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { EventBus } from "../../src/bus.js";
import { SSEConnection } from "../../src/index.js";
import { Bursts, type QueryMap, type SSEQueriesOptions, useSSEQueries } from "../../src/query.js";

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(0);
  vi.spyOn(document, "hidden", "get").mockImplementation(() => hidden);
  vi.spyOn(document, "visibilityState", "get").mockImplementation(() => (hidden ? "hidden" : "visible"));
});
let hidden = false;

function setHidden(value: boolean): void {
  hidden = value;
  act(() => void document.dispatchEvent(new Event("visibilitychange", { bubbles: true })));
}

afterEach(() => {
  cleanup();
  hidden = false;
  vi.restoreAllMocks();
  vi.useRealTimers();
});

/** A component with this map; `invalidated` are the keys so far. */
function setup(map: QueryMap, options: SSEQueriesOptions = {}) {
  const bus = new EventBus();
  const client = new QueryClient();
  const invalidated: QueryKey[] = [];
  vi.spyOn(client, "invalidateQueries").mockImplementation(async (filters = {}) => {
    invalidated.push((filters.queryKey as QueryKey | undefined) ?? []);
  });
  const Inside = (props: { map: QueryMap }) => {
    useSSEQueries(props.map, options);
    return null;
  };
  const show = (map: QueryMap) => (
    <QueryClientProvider client={client}>
      <SSEConnection user={null} token={null} bus={bus} indicator={false}>
        <Inside map={map} />
      </SSEConnection>
    </QueryClientProvider>
  );
  const { rerender, unmount } = render(show(map));
  return { bus, invalidated, rerender: (map: QueryMap) => rerender(show(map)), unmount };
}

const pass = (ms: number) => act(() => vi.advanceTimersByTimeAsync(ms));

describe("useSSEQueries", () => {
  test("invalidates the keys of an event's name, or of its prefix", async () => {
    const { bus, invalidated } = setup({ "estimate.*": [["estimates"], ["sums"]], "project.created": [["projects"]] });
    bus.emit("project.updated", {});
    await pass(10);
    expect(invalidated).toEqual([]);
    bus.emit("estimate.created", {});
    bus.emit("project.created", {});
    await pass(10);
    expect(invalidated).toEqual([["estimates"], ["sums"], ["projects"]]);
  });

  test("asks a function which keys, and always that of the last render", async () => {
    const { bus, invalidated, rerender } = setup({ "estimate.updated": () => [["old"]] });
    rerender({ "estimate.updated": (data, { event }) => [["estimate", data.estimate_id, event]] });
    bus.emit("estimate.updated", { estimate_id: 5 });
    await pass(10);
    expect(invalidated).toEqual([["estimate", 5, "estimate.updated"]]);
  });

  test("a burst is one invalidation soon, and one at the end", async () => {
    const { bus, invalidated } = setup({ "*": [["estimates"], ["estimates"]] });
    for (let n = 0; n < 100; n++) bus.emit("estimate.created", n);
    await pass(5);
    expect(invalidated).toHaveLength(1);
    for (let n = 0; n < 100; n++) bus.emit("estimate.created", n);
    await pass(90);
    expect(invalidated).toHaveLength(1);
    await pass(10);
    expect(invalidated).toHaveLength(2);
    await pass(1000);
    expect(invalidated).toHaveLength(2);
    bus.emit("estimate.created", 0);
    await pass(5);
    expect(invalidated).toHaveLength(3);
  });

  test("wait says how often", async () => {
    const { bus, invalidated } = setup({ a: [["k"]] }, { wait: 1000 });
    bus.emit("a");
    await pass(5);
    bus.emit("a");
    await pass(900);
    expect(invalidated).toHaveLength(1);
    await pass(100);
    expect(invalidated).toHaveLength(2);
  });

  test.each(["system.stale", "system.resync"])("%s invalidates everything mapped", async (event) => {
    const { bus, invalidated } = setup({ a: [["a"], ["both"]], "b.*": [["both"]] });
    bus.emit(event, { reason: "x" });
    await pass(10);
    expect(invalidated).toEqual([["a"], ["both"]]);
  });

  test("and everything there is, if a function would have said what", async () => {
    const { bus, invalidated } = setup({ a: [["a"]], b: () => [["b"]] });
    bus.emit("system.stale", { reason: "no_id" });
    await pass(10);
    expect(invalidated).toEqual([["a"], []]);
  });

  test("or what `all` says", async () => {
    const { bus, invalidated } = setup({ a: [["a"]], b: () => [["b"]] }, { all: [["root"]] });
    bus.emit("system.resync", { reason: "newer" });
    await pass(10);
    expect(invalidated).toEqual([["root"]]);
  });

  test("a connection that is lost, or restored with all that was missed, invalidates nothing by itself", async () => {
    const { bus, invalidated } = setup({ "estimate.*": [["estimates"]] });
    bus.emit("system.connectionLost", { reason: "error" });
    bus.emit("system.connectionRestored", { resumed: true, downMs: 5 });
    await pass(1000);
    expect(invalidated).toEqual([]);
  });

  test("what is unmounted in a burst invalidates at once what it still had to, and then nothing", async () => {
    const { bus, invalidated, unmount } = setup({ a: [["a"]], b: [["b"]] });
    bus.emit("a");
    await pass(5);
    bus.emit("a");
    unmount();
    expect(invalidated).toEqual([["a"], ["a"]]);
    bus.emit("b");
    await pass(1000);
    expect(invalidated).toHaveLength(2);
  });

  test("an empty map is no mistake", async () => {
    const { bus, invalidated } = setup({});
    bus.emit("", {});
    bus.emit("system.stale", { reason: "no_id" });
    await pass(10);
    expect(invalidated).toEqual([]);
  });

  test("a query on the page is fetched anew, in a hidden tab too", async () => {
    setHidden(true);
    const bus = new EventBus();
    let count = 0;
    const List = () => {
      useSSEQueries({ "estimate.*": [["estimates"]] });
      const { data } = useQuery({ queryKey: ["estimates", { page: 1 }], queryFn: async () => ++count });
      return <p>fetched {data}</p>;
    };
    render(
      <QueryClientProvider client={new QueryClient()}>
        <SSEConnection user={null} token={null} bus={bus} indicator={false}>
          <List />
        </SSEConnection>
      </QueryClientProvider>,
    );
    await pass(10);
    expect(screen.getByText("fetched 1")).toBeTruthy();
    bus.emit("estimate.created", {});
    await pass(10);
    expect(screen.getByText("fetched 2")).toBeTruthy();
  });
});

describe("a long burst", () => {
  test("waits for the refetch that is under way, so that it is not cancelled time and again", async () => {
    let done = () => {};
    const invalidate = vi.fn(() => new Promise<void>((resolve) => (done = resolve)));
    const bursts = new Bursts(invalidate, 100);
    for (let n = 0; n < 40; n++) {
      bursts.add([["a"]]);
      await vi.advanceTimersByTimeAsync(10);
    }
    expect(invalidate).toHaveBeenCalledTimes(1);
    done();
    await vi.advanceTimersByTimeAsync(0);
    expect(invalidate).toHaveBeenCalledTimes(2);
    bursts.end();
  });

  test("does not wait longer than 30 s, and not for one that failed", async () => {
    const invalidate = vi
      .fn()
      .mockReturnValueOnce(new Promise(() => {}))
      .mockRejectedValue(new Error("offline"));
    const bursts = new Bursts(invalidate, 100);
    bursts.add([["a"]]);
    await vi.advanceTimersByTimeAsync(1);
    bursts.add([["a"]]);
    await vi.advanceTimersByTimeAsync(29_000);
    expect(invalidate).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(1000);
    expect(invalidate).toHaveBeenCalledTimes(2);
    bursts.add([["a"]]);
    await vi.advanceTimersByTimeAsync(100);
    expect(invalidate).toHaveBeenCalledTimes(3);
    bursts.end();
  });
});

describe("what is shown in the end is what the server has", () => {
  /** A page that shows ["estimates"], which the server reads at once and answers `takes` ms later (null: never). */
  function live(takes: (n: number) => number | null, refetchOnWindowFocus = true) {
    const bus = new EventBus();
    const client = new QueryClient({ defaultOptions: { queries: { refetchOnWindowFocus } } });
    const site = { database: "old", fetches: 0 };
    const List = () => {
      useSSEQueries({ "estimate.*": [["estimates"]] });
      const { data } = useQuery({
        queryKey: ["estimates"],
        queryFn: async () => {
          const read = site.database;
          const ms = takes(++site.fetches);
          await new Promise((resolve) => ms !== null && setTimeout(resolve, ms));
          return read;
        },
      });
      return <p>{data}</p>;
    };
    const { unmount } = render(
      <QueryClientProvider client={client}>
        <SSEConnection user={null} token={null} bus={bus} indicator={false}>
          <List />
        </SSEConnection>
      </QueryClientProvider>,
    );
    return { site, bus, client, unmount };
  }

  test("an event while a query is fetched for the first time", async () => {
    const { site, bus } = live(() => 500);
    await pass(100);
    site.database = "new";
    bus.emit("estimate.created", {});
    await pass(2000);
    expect(screen.getByText("new")).toBeTruthy();
    expect(site.fetches).toBe(2);
  });

  test("steady events and a server slower than they are: it is refreshed all the time, not at the end", async () => {
    const { site, bus } = live((n) => (n === 1 ? 10 : 1500));
    await pass(100);
    for (let n = 0; n < 120; n++) {
      site.database = String(n);
      bus.emit("estimate.updated", {});
      await pass(500);
    }
    expect(Number(document.querySelector("p")?.textContent)).toBeGreaterThan(110);
    await pass(5000);
    expect(screen.getByText("119")).toBeTruthy();
  });

  test("a refetch of somebody else that is under way is let finish, and followed by one more", async () => {
    const { site, bus, client } = live((n) => (n === 1 ? 10 : 1500));
    await pass(100);
    site.database = "polled";
    void client.refetchQueries({ queryKey: ["estimates"] });
    await pass(1000);
    site.database = "new";
    bus.emit("estimate.updated", {});
    await pass(600);
    expect(screen.getByText("polled")).toBeTruthy();
    await pass(1500);
    expect(screen.getByText("new")).toBeTruthy();
    expect(site.fetches).toBe(3);
  });

  test("a refetch that hangs is given up", async () => {
    const { site, bus } = live((n) => (n === 2 ? null : 10));
    await pass(100);
    bus.emit("estimate.updated", {});
    await pass(100);
    site.database = "new";
    bus.emit("estimate.updated", {});
    await pass(61_000);
    expect(screen.getByText("new")).toBeTruthy();
  });

  test("and a query that nobody shows any more is old, though it was still being fetched", async () => {
    const { client, bus, unmount } = live(() => 10);
    const result = client.prefetchQuery({ queryKey: ["estimates", 5], queryFn: () => later(500, "old") });
    await pass(100);
    bus.emit("estimate.updated", {});
    await pass(1000);
    await result;
    expect(client.getQueryState(["estimates", 5])).toMatchObject({ data: "old", isInvalidated: true });
    unmount();
  });

  test("pages that may have missed something do not all ask at the same moment", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.5);
    const { site, bus } = live(() => 10);
    await pass(100);
    bus.emit("system.resync", { reason: "unknown" });
    bus.emit("system.stale", { reason: "missed" });
    await pass(999);
    expect(site.fetches).toBe(1);
    await pass(100);
    expect(site.fetches).toBe(2);
  });

  test.each([
    [true, "and so does TanStack Query"],
    [false, "though TanStack Query does not"],
  ])("a hidden tab asks once when it is shown (refetchOnWindowFocus %s: %s)", async (refetchOnWindowFocus) => {
    const { site, bus, client } = live(() => 10, refetchOnWindowFocus);
    await pass(100);
    bus.emit("system.stale", { reason: "missed" }); // shown now, hidden when it is due
    setHidden(true);
    await pass(3000);
    expect(client.getQueryState(["estimates"])).toMatchObject({ isInvalidated: true });
    site.database = "new";
    bus.emit("system.resync", { reason: "unknown" });
    await pass(3000);
    expect(site.fetches).toBe(1);
    setHidden(false);
    await pass(3000);
    expect(site.fetches).toBe(2);
    expect(screen.getByText("new")).toBeTruthy();
  });

  test("what is unmounted before it is due is made old at once", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.5);
    const { client, bus, unmount } = live(() => 10);
    await pass(100);
    bus.emit("system.stale", { reason: "missed" });
    unmount();
    expect(client.getQueryState(["estimates"])).toMatchObject({ isInvalidated: true });
  });
});

function later<T>(ms: number, value: T): Promise<T> {
  return new Promise((resolve) => setTimeout(() => resolve(value), ms));
}
