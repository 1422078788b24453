"use client";

import { hashKey, type QueryClient, type QueryKey, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import type { EventData, EventMeta, SSEEvents } from "./events.js";
import { useLatest, useSSEBus } from "./react.js";

type Keys<N extends string> = readonly QueryKey[] | ((data: EventData<N>, meta: EventMeta) => readonly QueryKey[]);

/** For each event name (`"estimate.*"` is a prefix) the queries that it makes old, or a function that says which. */
export type QueryMap = { readonly [N in keyof SSEEvents]?: Keys<N> } & { readonly [name: string]: Keys<string> };

export interface SSEQueriesOptions {
  /** Where the queries are (that of the `<QueryClientProvider>`). */
  client?: QueryClient;
  /** A key is invalidated at most once in so many milliseconds (100). */
  wait?: number;
  /**
   * When the page may have missed something, it waits for up to so many milliseconds, at random (2000): a server that
   * was started anew tells that to all its pages at the same moment.
   */
  spread?: number;
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
  const { wait = 100, spread = 2000 } = options;
  useEffect(() => {
    const bursts = new Bursts((key) => refresh(client, key), wait);
    const everything = new Everything(client, bursts, spread, () => {
      const { map, all } = latest.current;
      return all ?? Object.values(map).flatMap((keys) => (typeof keys === "function" ? [[]] : (keys ?? [])));
    });
    const off = names
      .split(" ")
      .filter((name) => name !== "")
      .map((name) =>
        bus.on(name, (data, meta) => {
          const keys = latest.current.map[name] ?? [];
          bursts.add(typeof keys === "function" ? keys(data, meta) : keys);
        }),
      );
    off.push(
      bus.on("system.stale", () => everything.old()),
      bus.on("system.resync", () => everything.old()),
    );
    return () => {
      for (const remove of off) remove();
      everything.end();
      bursts.end();
    };
  }, [bus, client, names, wait, spread, latest]);
}

/** A fetch that takes so long has no answer. */
const HANG_MS = 30_000;

/**
 * Makes the queries of this key old, and fetches what is shown ("none": only makes them old). What is being fetched
 * already may have been read before the event. It is not cancelled, because in a long burst it would be time and
 * again, but made old once more when it is done. The promise, which does not fail, is kept when all that is done.
 */
async function refresh(client: QueryClient, queryKey: QueryKey, refetchType: "active" | "none" = "active") {
  const invalidate = (cancelRefetch: boolean) =>
    client.invalidateQueries({ queryKey, refetchType }, { cancelRefetch }).catch(() => {});
  const before = client.getQueryCache().findAll({ queryKey, fetchStatus: "fetching" });
  const fetches = before.map((query) => query.fetch()); // the fetch under way, and no new one
  const done = invalidate(false);
  if (fetches.length > 0) await invalidate(!(await settles(fetches)));
  await done;
}

/** Whether all of them come to an end before long. */
async function settles(promises: readonly unknown[]): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const hangs = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), HANG_MS);
  });
  const settled = Promise.allSettled(promises).then(() => true);
  return Promise.race([settled, hangs]).finally(() => clearTimeout(timer));
}

/** All that is mapped, when the page may have missed something. A hidden tab fetches it when it is shown. */
class Everything {
  private timer: ReturnType<typeof setTimeout> | null = null;
  private waiting = false;

  constructor(
    private readonly client: QueryClient,
    private readonly bursts: Bursts,
    private readonly spread: number,
    private readonly keys: () => readonly QueryKey[],
  ) {
    document.addEventListener("visibilitychange", this.shown);
  }

  old(): void {
    if (document.hidden) this.mark();
    else this.timer ??= setTimeout(() => this.due(), Math.random() * this.spread);
  }

  /** What was still to come is done now. */
  end(): void {
    document.removeEventListener("visibilitychange", this.shown);
    if (this.timer !== null) this.due();
  }

  private due(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    if (document.hidden) this.mark();
    else this.bursts.add(this.keys());
  }

  private mark(): void {
    this.waiting = true;
    for (const key of this.keys()) void refresh(this.client, key, "none");
  }

  /** Joins what TanStack Query itself fetches when a tab is shown, if it does. */
  private readonly shown = () => {
    if (document.hidden || !this.waiting) return;
    this.waiting = false;
    for (const queryKey of this.keys()) {
      void this.client.refetchQueries({ queryKey, type: "active", stale: true }, { cancelRefetch: false });
    }
  };
}

interface Burst {
  key: QueryKey;
  /** Something happened since it was last invalidated. */
  again: boolean;
}

/**
 * Invalidates each key soon after it was added first, and once more if it was added after that: `wait` later, but not
 * before the refetch is done, unless that hangs.
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
      await Promise.all([this.sleep(this.wait), settles([this.invalidate(burst.key)])]);
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
