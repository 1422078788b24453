import type { SSESnapshot } from "./client.js";
import { Connection, type ConnectionOptions, type Token } from "./connection.js";
import type { Browser } from "./environment.js";
import type { EventMeta } from "./events.js";
import { isNewer, type LastId } from "./ids.js";
import type { Frame } from "./stream.js";
import { type Question, type Shared, Tabs } from "./tabs.js";

export interface SessionOptions extends ConnectionOptions {
  share: boolean;
  /** The same in all tabs that share a connection. */
  name: string;
}

export interface SessionHost {
  token(): Token;
  update(change: Partial<SSESnapshot>): void;
  emit(event: string, data: unknown, meta: Partial<EventMeta>): void;
  log(...what: unknown[]): void;
}

/** What a later session of the same page begins with. */
export interface SessionMemory {
  ids: LastId;
  shared: Shared;
}

export const UNCONNECTED: Shared = {
  lost: null,
  resumed: false,
  refused: null,
  status: "connecting",
  attempt: 0,
  since: 0,
};

/**
 * A client from start to stop: among the tabs, and with a connection if this one leads.
 *
 * joined: it leads or follows. suspended: the page is in the back/forward cache, or frozen. out: its token is not
 * taken, so it does not hear what the other tabs hear either.
 */
export class Session {
  private state: "joined" | "suspended" | "out" = "suspended";
  private connection: Connection | null = null;
  /** The bus knows that there is a connection: from now on it is told when there is none, and when there is again. */
  private wasOpen = false;
  private lostAt: number | null = null;
  private readonly tabs: Tabs;
  private readonly off: (() => void)[];
  private readonly ids: LastId;

  constructor(
    private readonly environment: Browser,
    private readonly options: SessionOptions,
    private readonly host: SessionHost,
    private readonly memory: SessionMemory,
  ) {
    this.ids = memory.ids;
    this.ids.load();
    this.tabs = new Tabs(environment, options, {
      lead: () => this.lead(),
      follow: () => this.follow(),
      asked: (question) => this.asked(question),
      signal: (signal) => this.dispatch(signal),
      status: (shared) => this.become(shared),
      welcome: (shared, lastId, missed) => {
        if (missed) this.ids.newest = lastId;
        this.become({ ...shared, resumed: shared.resumed && !missed });
        if (missed) this.host.emit("system.stale", { reason: missed }, {});
      },
      gap: () => {
        this.ids.newest = null;
        this.host.emit("system.stale", { reason: "missed" }, {});
      },
      lastId: () => this.ids.newest,
      shared: () => this.memory.shared,
      log: host.log,
    });
    this.off = [
      environment.on("shown", () => this.shown()),
      environment.on("online", () => this.connection?.online()),
      environment.on("offline", () => this.connection?.offline()),
      environment.on("suspend", () => this.suspend()),
      environment.on("resume", () => this.resume()),
    ];
  }

  join(): void {
    this.state = "joined";
    this.become({ ...this.memory.shared, status: "connecting", attempt: 0, since: this.environment.now() });
    this.tabs.join();
  }

  /** Leaves nothing open. */
  end(): void {
    for (const off of this.off) off();
    this.leave("out");
  }

  reconnect(): void {
    if (this.state !== "joined") {
      this.memory.shared = { ...this.memory.shared, refused: null }; // it may be taken now
      this.join();
    } else if (this.connection) this.connection.connect();
    else this.tabs.ask("reconnect");
  }

  tokenChanged(): void {
    if (this.state === "out") this.join();
    else if (typeof this.host.token() === "string") this.connection?.connect();
  }

  private shown(): void {
    if (this.state === "suspended") this.join();
    else if (this.connection) this.connection.shown();
    else this.tabs.ask("shown");
  }

  private suspend(): void {
    if (this.state === "joined") this.leave("suspended");
  }

  private resume(): void {
    if (this.state === "suspended") this.join();
  }

  private leave(state: "suspended" | "out"): void {
    this.state = state;
    this.ids.save();
    this.connection?.stop();
    this.connection = null;
    this.tabs.leave();
    this.host.update({ leader: false });
  }

  private lead(): void {
    const { environment, options, host } = this;
    const connection = new Connection(
      environment,
      options,
      {
        lastId: () => this.ids.newest,
        token: () => host.token(),
        signal: (signal) => this.tell(signal),
        status: (status, attempt) => {
          const since = status === this.memory.shared.status ? this.memory.shared.since : environment.now();
          const shared = { ...connection.carried, status, attempt, since };
          this.tabs.status(shared);
          this.become(shared);
        },
        over: (status) => {
          this.leave("out");
          host.emit(`auth.${status}`, {}, {});
        },
        log: host.log,
      },
      this.memory.shared,
    );
    this.connection = connection;
    this.host.update({ leader: true });
    connection.connect();
  }

  private follow(): void {
    this.connection?.stop();
    this.connection = null;
    this.host.update({ leader: false });
  }

  private asked(question: Question): void {
    if (question === "reconnect") this.connection?.connect();
    else if (question === "shown") this.connection?.shown();
    else this.connection?.watched();
  }

  private become(shared: Shared): void {
    const { status, attempt, since } = shared;
    if (status !== this.memory.shared.status) this.host.log(status, attempt > 0 ? `(attempt ${attempt})` : "");
    this.memory.shared = shared;
    this.host.update({ status, attempt, since, lastEventId: this.ids.newest });
    if (status === "open") this.found(shared.resumed);
    else if (shared.lost && this.wasOpen && this.lostAt === null) {
      this.lostAt = this.environment.now();
      this.host.emit("system.connectionLost", { reason: shared.lost }, {});
    }
  }

  private found(resumed: boolean): void {
    const { lostAt } = this;
    this.wasOpen = true;
    this.lostAt = null;
    if (lostAt === null) return;
    const downMs = Math.max(0, this.environment.now() - lostAt);
    this.host.emit("system.connectionRestored", { resumed, downMs }, {});
  }

  /** As the leader: to the other tabs first, so that they miss nothing of what this one has dispatched. */
  private tell(signal: Frame): void {
    this.tabs.signal(signal);
    this.dispatch(signal);
    this.ids.saveSoon();
  }

  private dispatch({ event, data, id, timestamp }: Frame): void {
    // With an id it is an event like others, which may come again: one of those before was lost, but ids go on.
    if (event === "system.resync" && id === null) this.ids.newest = null;
    // The id of `connected` is none of an event; it may be known.
    if (event !== "connected" && id !== null && this.ids.isRepeat(id)) return;
    if (event === "connected" && id !== null && isNewer(id, this.ids.newest)) this.ids.newest = id;
    this.host.update({ lastEventId: this.ids.newest });
    this.host.log(event, data, id ?? "");
    const meta: Partial<EventMeta> = {};
    if (id !== null) meta.id = id;
    if (timestamp !== undefined) meta.timestamp = timestamp;
    this.host.emit(event, data, meta);
  }
}
