import { hashKey, type QueryClient, type QueryKey, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import type { EventBus } from "./bus.js";
import type { EventData, EventMeta } from "./events.js";
import { useLatest, useSSEBus } from "./react.js";

/** For each event name (`"estimate.*"` is a prefix) the queries that it makes old, or a function that says which. */
export type QueryMap = {
  [N in string]: readonly QueryKey[] | ((data: EventData<N>, meta: EventMeta) => readonly QueryKey[]);
};

export interface SSEQueriesOptions {
  /** Where the queries are (that of the `<QueryClientProvider>`). */
  client?: QueryClient;
  /** A key is invalidated at most once in so many milliseconds (100). */
  wait?: number;
  /**
   * What is invalidated when the page may have missed something. If it is not given: all keys of the map, and
   * all queries there are if the map has functions, because nobody can say which keys they would have named.
   */
  all?: readonly QueryKey[];
}

/**
 * Invalidates queries when events say that they are old, and all of them on `system.stale` and `system.resync`. Bursts
 * are gathered. Mount it once, near the top: what is not mounted hears nothing.
 */
export function useSSEQueries(map: QueryMap, options: SSEQueriesOptions = {}): void {
  const bus = useSSEBus();
  const client = useQueryClient(options.client);
  const latest = useLatest({ map, all: options.all });
  const names = Object.keys(map).join(" ");
  const { wait = 100 } = options;
  useEffect(() => {
    const bursts = new Bursts((queryKey) => client.invalidateQueries({ queryKey }), wait);
    const off = listen(bus, names.split(" "), bursts, latest);
    return () => {
      for (const remove of off) remove();
      bursts.end();
    };
  }, [bus, client, names, wait, latest]);
}

interface Mapped {
  readonly current: { map: QueryMap; all: readonly QueryKey[] | undefined };
}

function listen(bus: EventBus, names: string[], bursts: Bursts, latest: Mapped): (() => void)[] {
  const everything = () => {
    const { map, all = Object.values(map).flatMap((keys) => (typeof keys === "function" ? [[]] : keys)) } =
      latest.current;
    bursts.add(all);
  };
  const named = names
    .filter((name) => name !== "")
    .map((name) =>
      bus.on(name, (data, meta) => {
        const keys = latest.current.map[name] ?? [];
        bursts.add(typeof keys === "function" ? keys(data, meta) : keys);
      }),
    );
  return [...named, bus.on("system.stale", everything), bus.on("system.resync", everything)];
}

interface Burst {
  key: QueryKey;
  /** Something happened since it was last invalidated. */
  again: boolean;
}

/**
 * Invalidates each key soon after it was added first, and once more if it was added after that: `wait` later, but not
 * before the refetch is done (or took ten times as long), which would cancel it time and again in a long burst.
 */
export class Bursts {
  private readonly bursts = new Map<string, Burst>();
  private readonly timers = new Set<ReturnType<typeof setTimeout>>();

  constructor(
    private readonly invalidate: (key: QueryKey) => Promise<void>,
    private readonly wait: number,
  ) {}

  add(keys: readonly QueryKey[]): void {
    for (const key of keys) {
      const hash = hashKey(key);
      const known = this.bursts.get(hash);
      if (known) known.again = true;
      else {
        const burst = { key, again: true };
        this.bursts.set(hash, burst);
        void this.run(hash, burst);
      }
    }
  }

  /** What is still to be invalidated is so now. */
  end(): void {
    for (const timer of this.timers) clearTimeout(timer);
    for (const { key, again } of this.bursts.values()) if (again) void this.invalidate(key);
    this.bursts.clear();
  }

  private async run(hash: string, burst: Burst): Promise<void> {
    await this.sleep(0); // what comes in the same moment is one
    while (burst.again) {
      burst.again = false;
      const done = this.invalidate(burst.key).catch(() => {});
      await Promise.all([this.sleep(this.wait), Promise.race([done, this.sleep(10 * this.wait)])]);
    }
    this.bursts.delete(hash);
  }

  private sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.timers.delete(timer);
        resolve();
      }, ms);
      this.timers.add(timer);
    });
  }
}
