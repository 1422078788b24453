import { type EventBus, eventBus } from "./bus.js";
import type { ConnectionStatus, Token } from "./connection.js";
import { browserEnvironment, type Environment, isBrowser } from "./environment.js";
import { LastId } from "./ids.js";
import type { RetryOptions } from "./policy.js";
import { Session, type SessionMemory, UNCONNECTED } from "./session.js";

/** What a client needs, and may be told. Times are milliseconds. */
export interface SSEClientOptions extends Partial<RetryOptions> {
  /** Who listens. The last id is kept, and the connection shared, per user and url. */
  user: string | number;
  token: Token;
  /** Where `sse` answers (/api/v1/sse/events/). */
  url?: string;
  /** Where events go (`eventBus`). */
  bus?: EventBus;
  /** Where the last id is kept (localStorage); null: in memory only. */
  storage?: Environment["storage"] | null;
  /** One connection for all tabs (true). */
  share?: boolean;
  /** A stream on which nothing came for so long is dead (75,000); the server says something every 30 s. */
  silenceMs?: number;
  /** Log to the console, with the prefix `[SSE]` (false). */
  debug?: boolean;
  /** The browser, for tests. */
  environment?: Environment;
}

/**
 * idle: not started. connecting · open · waiting: for the next attempt. lost: the attempts are used up. denied,
 * revoked: the server does not take the token, and there is no other.
 */
export type SSEStatus = "idle" | ConnectionStatus;

export interface SSESnapshot {
  status: SSEStatus;
  /** Which of the attempts comes next, or is under way; 0: the first connection, or an open one. */
  attempt: number;
  /** The newest event this page has dispatched. */
  lastEventId: string | null;
  /** This tab has the connection; the others hear from it. */
  leader: boolean;
  /** Since when the status is what it is, in milliseconds since 1970. */
  since: number;
}

const DEFAULTS = {
  share: true,
  attempts: 5,
  delayMs: 3000,
  jitterMs: 1000,
  stableMs: 10_000,
  silenceMs: 75_000,
  slowMs: 60_000,
};

/** A client that was not started; also what a server renders. */
export const IDLE: SSESnapshot = Object.freeze({
  status: "idle",
  attempt: 0,
  lastEventId: null,
  leader: false,
  since: 0,
});

/**
 * Brings the events of one user to a bus: over a connection of its own, or that of another tab. Events come in order,
 * each once. When that cannot be said, the bus hears `system.stale` or `system.resync`: refetch what you show.
 */
export class SSEClient {
  readonly bus: EventBus;
  private token: Token;
  private session: Session | null = null;
  private memory: SessionMemory | null = null;
  private snapshot = IDLE;
  private readonly listeners = new Set<() => void>();
  private starting: object | null = null;

  constructor(private readonly options: SSEClientOptions) {
    this.bus = options.bus ?? eventBus;
    this.token = options.token;
  }

  /** Connects, a moment later: a stop that follows at once, as in React's StrictMode, leaves no trace. */
  start(): void {
    if (this.session || this.starting) return;
    const start = {};
    this.starting = start;
    queueMicrotask(() => {
      if (this.starting !== start) return;
      this.starting = null;
      this.begin();
    });
  }

  /** Leaves nothing open. What this page has seen is remembered for the next start. */
  stop(): void {
    this.starting = null;
    this.session?.end();
    this.session = null;
    this.update({ ...IDLE, lastEventId: this.snapshot.lastEventId });
  }

  /** Tries at once and counts anew; an open connection is replaced. If another tab has it, that one is asked to. */
  reconnect(): void {
    this.session?.reconnect();
  }

  /** From now on this token: a string that is another one at once, a function when a token is needed. */
  setToken(token: Token): void {
    if (token === this.token) return;
    this.token = token;
    this.session?.tokenChanged();
  }

  /** For `useSyncExternalStore`. */
  readonly getSnapshot = (): SSESnapshot => this.snapshot;

  /** For `useSyncExternalStore`. Calls `listener` after each change; the function it returns ends that. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  };

  private begin(): void {
    const { environment = browserEnvironment(), user, debug } = this.options;
    if (!isBrowser(environment)) {
      console.warn("[SSE] there is no EventSource here: no events");
      return;
    }
    const url = this.options.url ?? "/api/v1/sse/events/";
    const name = `sse-react:${user}:${url}`;
    const storage = this.options.storage === undefined ? environment.storage : this.options.storage;
    this.memory ??= { ids: new LastId(environment, name, storage), shared: UNCONNECTED };
    const session = new Session(
      environment,
      { ...DEFAULTS, ...defined(this.options), url, name },
      {
        token: () => this.token,
        // A handler may have stopped the client: nothing more is heard of it then.
        update: (change) => this.session === session && this.update(change),
        emit: (event, data, meta) => this.session === session && this.bus.emit(event, data, meta),
        log: (...what) => debug && console.info("[SSE]", ...what),
      },
      this.memory,
    );
    this.session = session;
    session.join();
  }

  private update(change: Partial<SSESnapshot>): void {
    const snapshot = { ...this.snapshot, ...change };
    const names = Object.keys(snapshot) as (keyof SSESnapshot)[];
    if (names.every((name) => snapshot[name] === this.snapshot[name])) return;
    this.snapshot = snapshot;
    for (const listener of [...this.listeners]) listener();
  }
}

/** An option that is undefined is one that is not given. */
export function defined<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}
