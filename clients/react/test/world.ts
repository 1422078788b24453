import { setImmediate } from "node:timers/promises";
import type { Browser, ChannelLike, EventSourceLike, LocksLike, PageEvent } from "../src/environment.js";

/** A browser with tabs, and a server. Time is what the test says, and each thing happens in a task of its own. */
export class World {
  now = Date.UTC(2026, 0, 1);
  /** What Math.random gives. */
  random = () => 0;
  /** How long a message from one tab to another, or from the server, takes. */
  latency = () => 0;
  readonly server = new Server(this);
  readonly stored = new Map<string, string>();
  readonly tabs: Tab[] = [];
  readonly channels = new Set<Channel>();
  readonly locks = new Map<string, Lock>();
  private tasks: Task[] = [];
  private count = 0;

  /** How many things are still to happen. */
  get pending(): number {
    return this.tasks.length;
  }

  /** A tab that begins to load now, and is shown. */
  tab(): Tab {
    const tab = new Tab(this, `tab${this.tabs.length + 1}`);
    this.tabs.push(tab);
    return tab;
  }

  /** Lets time pass, and all happen that is due. */
  async advance(ms = 0): Promise<void> {
    const until = this.now + ms;
    await setImmediate();
    for (;;) {
      const next = this.tasks.reduce<Task | null>(
        (first, task) => (first && !before(task, first) ? first : task),
        null,
      );
      if (!next || next.at > until) break;
      this.tasks.splice(this.tasks.indexOf(next), 1);
      this.now = Math.max(this.now, next.at);
      if (next.tab.frozen) next.tab.held.push(next);
      else if (!next.tab.closed) next.run();
      await setImmediate();
    }
    this.now = until;
  }

  /** What a tab does later. Tasks of the same moment are done in order. */
  later(tab: Tab, ms: number, run: () => void, isMessage = false): Task {
    const task = { tab, at: this.now + ms, order: this.count++, run, isMessage };
    this.tasks.push(task);
    return task;
  }

  again(task: Task): void {
    this.tasks.push(Object.assign(task, { at: this.now, order: this.count++ }));
  }

  cancel(task: Task): void {
    this.tasks = this.tasks.filter((other) => other !== task);
    task.tab.held = task.tab.held.filter((other) => other !== task);
  }
}

interface Task {
  tab: Tab;
  at: number;
  order: number;
  run: () => void;
  isMessage: boolean;
}

function before(a: Task, b: Task): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

export class Tab {
  readonly environment: Browser;
  closed = false;
  frozen = false;
  visible = true;
  online = true;
  /** How far its clock is ahead; timers do not mind. */
  clock = 0;
  held: Task[] = [];
  /** When a message for a given other tab may arrive: not before the one that was sent before it. */
  readonly arrivals = new Map<unknown, number>();
  private readonly listeners = new Map<PageEvent, Set<() => void>>();

  constructor(
    readonly world: World,
    readonly name: string,
  ) {
    const { server } = world;
    const tab = this;
    this.environment = {
      EventSource: class extends Source {
        constructor(url: string) {
          super(tab, url);
        }
      },
      fetch: (url) => server.head(url),
      locks: new Locks(this),
      BroadcastChannel: class extends Channel {
        constructor(name: string) {
          super(tab, name);
        }
      },
      storage: {
        getItem: (key) => world.stored.get(key) ?? null,
        setItem: (key, value) => {
          world.stored.set(key, value);
          this.tellStored();
        },
        removeItem: (key) => {
          world.stored.delete(key);
          this.tellStored();
        },
      },
      visible: () => this.visible,
      online: () => this.online,
      on: (event, listener) => {
        const all = this.listeners.get(event) ?? new Set();
        this.listeners.set(event, all.add(listener));
        return () => void all.delete(listener);
      },
      now: () => world.now + this.clock,
      loadedAt: world.now,
      page: {},
      random: () => world.random(),
      setTimeout: (callback, ms) => world.later(this, ms, callback),
      clearTimeout: (timer) => timer && world.cancel(timer as Task),
    };
  }

  /** The streams of this tab that are open. */
  get streams(): Source[] {
    return this.world.server.sources.filter((source) => source.tab === this && source.readyState !== 2);
  }

  fire(event: PageEvent): void {
    for (const listener of [...(this.listeners.get(event) ?? [])]) listener();
  }

  listening(): number {
    return [...this.listeners.values()].reduce((sum, all) => sum + all.size, 0);
  }

  /** Other tabs that listen are told that something was stored. */
  private tellStored(): void {
    for (const other of this.world.tabs) {
      if (other === this || !other.listeners.get("storage")?.size) continue;
      this.world.later(other, this.world.latency(), () => other.fire("storage"));
    }
  }

  hide(): void {
    this.visible = false;
  }

  show(): void {
    this.visible = true;
    this.fire("shown");
  }

  setOnline(online: boolean): void {
    this.online = online;
    this.fire(online ? "online" : "offline");
  }

  /** Nothing runs any more, and nobody is told: a long loop, or a phone that stops a tab. */
  freeze(): void {
    this.frozen = true;
  }

  /** What was to be done meanwhile is done now; but the browser may have thrown away what other tabs have said. */
  thaw({ forgetful = false } = {}): void {
    this.frozen = false;
    for (const task of this.held.splice(0).sort((a, b) => (before(a, b) ? -1 : 1))) {
      if (!forgetful || !task.isMessage) this.world.again(task);
    }
  }

  /** The user closes it, or it crashes: no word of farewell. */
  close(): void {
    this.closed = true;
    for (const source of this.streams) source.close();
    for (const channel of this.world.channels) if (channel.tab === this) channel.close();
    for (const lock of this.world.locks.values()) lock.drop(this);
  }
}

class Channel implements ChannelLike {
  onmessage: ((event: MessageEvent) => void) | null = null;
  closed = false;

  constructor(
    readonly tab: Tab,
    readonly name: string,
  ) {
    tab.world.channels.add(this);
  }

  postMessage(message: unknown): void {
    if (this.closed) throw new Error("InvalidStateError");
    const data = structuredClone(message);
    const { world } = this.tab;
    for (const other of world.channels) {
      if (other === this || other.name !== this.name) continue;
      const at = Math.max(world.now + world.latency(), this.tab.arrivals.get(other.tab) ?? 0);
      this.tab.arrivals.set(other.tab, at);
      const deliver = () => other.closed || other.onmessage?.({ data } as MessageEvent);
      world.later(other.tab, at - world.now, deliver, true);
    }
  }

  close(): void {
    this.closed = true;
    this.tab.world.channels.delete(this);
  }
}

interface Request {
  tab: Tab;
  callback: () => Promise<void>;
  resolve: () => void;
  reject: (error: Error) => void;
}

class Lock {
  held: Request | null = null;
  readonly queue: Request[] = [];

  constructor(private readonly world: World) {}

  grant(): void {
    const next = this.held ? undefined : this.queue.shift();
    if (next) this.give(next);
  }

  give(request: Request): void {
    this.held = request;
    this.world.later(request.tab, 0, () => {
      void request.callback().then(() => {
        request.resolve();
        this.leave(request);
      });
    });
  }

  steal(request: Request): void {
    const robbed = this.held;
    if (robbed) this.world.later(robbed.tab, 0, () => robbed.reject(new DOMException("stolen", "AbortError")));
    this.give(request);
  }

  leave(request: Request): void {
    if (this.held !== request) return;
    this.held = null;
    this.grant();
  }

  drop(tab: Tab): void {
    this.queue.splice(0, this.queue.length, ...this.queue.filter((request) => request.tab !== tab));
    if (this.held?.tab === tab) this.leave(this.held);
  }
}

class Locks implements LocksLike {
  constructor(private readonly tab: Tab) {}

  request(name: string, options: { signal?: AbortSignal; steal?: boolean }, callback: () => Promise<void>) {
    const { world } = this.tab;
    const lock = world.locks.get(name) ?? new Lock(world);
    world.locks.set(name, lock);
    return new Promise<void>((resolve, reject) => {
      const request = { tab: this.tab, callback, resolve, reject };
      if (options.steal) return lock.steal(request);
      options.signal?.addEventListener("abort", () => {
        const at = lock.queue.indexOf(request);
        if (at < 0) return;
        lock.queue.splice(at, 1);
        reject(new DOMException("aborted", "AbortError"));
      });
      lock.queue.push(request);
      lock.grant();
    });
  }
}

export class Source implements EventSourceLike {
  onmessage: ((event: MessageEvent<string>) => void) | null = null;
  onerror: ((event: Event) => void) | null = null;
  readyState = 0;
  readonly token: string | null;
  readonly from: string | null;
  private lastEventId = "";

  constructor(
    readonly tab: Tab,
    readonly url: string,
  ) {
    const { searchParams } = new URL(url, "http://site");
    this.token = searchParams.get("token");
    this.from = searchParams.get("lastEventId");
    tab.world.server.sources.push(this);
    tab.world.later(tab, 0, () => this.readyState !== 2 && tab.world.server.answer(this));
  }

  /** The server sends this; an EventSource repeats the id of before if there is none. */
  send(message: { event: string; data?: unknown; timestamp?: number }, id?: string): void {
    this.raw(JSON.stringify(message), id);
  }

  raw(data: string, id?: string): void {
    this.inOrder(() => {
      if (id !== undefined) this.lastEventId = id;
      this.onmessage?.({ data, lastEventId: this.lastEventId } as MessageEvent<string>);
    });
  }

  /** The connection breaks: the browser would connect again. */
  break(): void {
    this.inOrder(() => this.onerror?.({} as Event));
  }

  /** The answer is something else than an event stream. */
  refuse(): void {
    this.inOrder(() => {
      this.readyState = 2;
      this.onerror?.({} as Event);
    });
  }

  close(): void {
    this.readyState = 2;
  }

  /** In order, like the bytes of a connection. */
  private inOrder(run: () => void): void {
    const { world } = this.tab;
    const at = Math.max(world.now + world.latency(), this.tab.arrivals.get(this) ?? 0);
    this.tab.arrivals.set(this, at);
    world.later(this.tab, at - world.now, () => this.readyState !== 2 && run());
  }
}

/** Says what `sse` says on the wire. */
export class Server {
  readonly sources: Source[] = [];
  readonly events: { id: string; event: string; data: unknown; timestamp: number }[] = [];
  /** "ok"; "down": the connection breaks; "mute": it takes the request and says nothing; or a status. */
  mode: "ok" | "down" | "mute" | number = "ok";
  readonly refused = new Map<string, number>();
  readonly heads: string[] = [];
  /** How far its clock is ahead of the browser's. */
  skew = 0;
  /** How many events are forgotten, if any are. */
  private floor: number | null = null;
  private n = 0;
  private newest: string;

  constructor(private readonly world: World) {
    this.newest = `${world.now}-0`;
  }

  get open(): Source[] {
    return this.sources.filter((source) => source.readyState === 1);
  }

  be(mode: Server["mode"]): void {
    this.mode = mode;
  }

  answer(source: Source): void {
    if (this.mode === "mute") return;
    if (this.mode === "down") source.break();
    else if (typeof this.mode === "number" || this.refused.has(source.token ?? "")) source.refuse();
    else this.greet(source);
  }

  publish(event: string, data: unknown): string {
    const id = `${this.world.now + this.skew}-${++this.n}`;
    const timestamp = Math.floor(this.world.now / 1000);
    this.newest = id;
    this.events.push({ id, event, data, timestamp });
    for (const source of this.open) source.send({ event, data, timestamp }, id);
    return id;
  }

  /** All streams break. */
  break(): void {
    for (const source of this.open) source.break();
  }

  revoke(token: string): void {
    this.refused.set(token, 401);
    for (const source of this.open.filter((source) => source.token === token)) {
      source.send({ event: "auth.revoked" });
      source.break();
    }
  }

  /** The memory is lost, as after a restart without a journal. */
  forget(): void {
    this.floor = this.events.length;
    this.newest = `${this.world.now + this.skew}-${++this.n}`;
  }

  async head(url: string): Promise<{ status: number }> {
    this.heads.push(url);
    if (this.mode === "down") throw new TypeError("Failed to fetch");
    const token = new URL(url, "http://site").searchParams.get("token") ?? "";
    return { status: typeof this.mode === "number" ? this.mode : (this.refused.get(token) ?? 200) };
  }

  private greet(source: Source): void {
    source.readyState = 1;
    const behind = this.events.slice(this.floor ?? 0);
    const known = source.from === this.newest || behind.some(({ id }) => id === source.from);
    const keepalive = () => {
      source.send({ event: "keepalive", timestamp: Math.floor(this.world.now / 1000) });
      if (source.readyState === 1) this.world.later(source.tab, 30_000, keepalive);
    };
    this.world.later(source.tab, 30_000, keepalive);
    if (source.from === null) {
      source.raw('{"event":"connected","message":"SSE connection established"}', this.newest);
    } else if (this.floor !== null && !known) {
      source.raw('{"event":"connected","message":"SSE connection established"}');
      source.send({ event: "system.resync", data: { reason: "too_old" } });
    } else {
      source.raw('{"event":"connected","message":"SSE connection established"}', source.from);
      for (const { id, ...event } of behind.filter(({ id }) => later(id, source.from ?? ""))) source.send(event, id);
    }
  }
}

function later(a: string, b: string): boolean {
  const [ams = 0, an = 0] = a.split("-").map(Number);
  const [bms = 0, bn = 0] = b.split("-").map(Number);
  return ams > bms || (ams === bms && an > bn);
}
