/** The part of an EventSource that is used. */
export interface EventSourceLike {
  /** 2: closed for good. */
  readonly readyState: number;
  onmessage: ((event: MessageEvent<string>) => void) | null;
  onerror: ((event: Event) => void) | null;
  close(): void;
}

/** The part of a BroadcastChannel that is used. */
export interface ChannelLike {
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
}

/** The part of the Web Locks API that is used. */
export interface LocksLike {
  request(
    name: string,
    options: { signal?: AbortSignal; steal?: boolean },
    callback: () => Promise<void>,
  ): Promise<unknown>;
}

/**
 * What the page is told: by the browser, about itself. `suspend` is said before it may be frozen or unloaded. `storage`:
 * another tab has stored something.
 */
export type PageEvent = "shown" | "online" | "offline" | "suspend" | "resume" | "storage";

/** All that the client needs of the browser, so that a test can be the browser. */
export interface Environment {
  /** Absent on a server: the client stays idle. */
  EventSource?: new (
    url: string,
  ) => EventSourceLike;
  fetch(url: string, init: { method: "HEAD"; cache: "no-store"; signal: AbortSignal }): Promise<{ status: number }>;
  locks?: LocksLike;
  BroadcastChannel?: new (name: string) => ChannelLike;
  /** A getter may throw, and so may each of its methods: private mode, a full disk. */
  storage?: Pick<Storage, "getItem" | "setItem" | "removeItem">;
  visible(): boolean;
  online(): boolean;
  /** Calls `listener` each time; the function it returns ends that. */
  on(event: PageEvent, listener: () => void): () => void;
  /** Milliseconds since 1970. */
  now(): number;
  /** When the browser began to load this page, as `now` counts. */
  loadedAt: number;
  /** What the clients of one page share: `first` is for whom the first of them was. */
  page: { first?: string };
  /** 0 to 1. */
  random(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
}

/** An environment in which there can be a stream. */
export type Browser = Environment & Required<Pick<Environment, "EventSource">>;

export function isBrowser(environment: Environment): environment is Browser {
  return environment.EventSource !== undefined;
}

const PAGE = {};

/** The browser that this runs in, or what there is of one. */
export function browserEnvironment(): Environment {
  const { EventSource, BroadcastChannel, navigator } = globalThis as Partial<typeof globalThis>;
  const environment: Environment = {
    fetch: (url, init) => fetch(url, init),
    visible: () => document.visibilityState === "visible",
    online: () => globalThis.navigator.onLine !== false,
    on: listen,
    now: () => Date.now(),
    loadedAt: globalThis.performance?.timeOrigin ?? Date.now(),
    page: PAGE,
    random: () => Math.random(),
    setTimeout: (callback, ms) => setTimeout(callback, ms),
    clearTimeout: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
  };
  if (EventSource) environment.EventSource = EventSource;
  if (BroadcastChannel) environment.BroadcastChannel = BroadcastChannel;
  if (navigator?.locks) environment.locks = navigator.locks;
  try {
    environment.storage = globalThis.localStorage;
  } catch {
    // The page may not store anything: the id is kept in memory.
  }
  return environment;
}

function listen(event: PageEvent, listener: () => void): () => void {
  const off: (() => void)[] = [];
  const add = (target: EventTarget, type: string, handler: (event: Event) => void) => {
    target.addEventListener(type, handler);
    off.push(() => target.removeEventListener(type, handler));
  };
  switch (event) {
    case "shown":
      add(document, "visibilitychange", () => document.visibilityState === "visible" && listener());
      break;
    // A page that holds a lock or a connection is not put into the back/forward cache.
    case "suspend":
      add(window, "pagehide", listener);
      add(document, "freeze", listener);
      break;
    case "resume":
      add(window, "pageshow", (shown) => (shown as PageTransitionEvent).persisted && listener());
      add(document, "resume", listener);
      break;
    default:
      add(window, event, listener);
  }
  return () => {
    for (const remove of off) remove();
  };
}
