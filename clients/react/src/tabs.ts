import type { Carried, ConnectionStatus } from "./connection.js";
import type { ChannelLike, Environment, LocksLike } from "./environment.js";
import type { SSEEvents } from "./events.js";
import { Leases } from "./leases.js";
import type { Frame } from "./stream.js";

/** How the connection is, in all tabs. */
export interface Shared extends Carried {
  status: ConnectionStatus;
  attempt: number;
  /** Since when, in milliseconds since 1970. */
  since: number;
}

/** A place in what all tabs see: the `n`th message of the leader that began with `term`. */
interface Position {
  term: number;
  n: number;
}

type StaleReason = SSEEvents["system.stale"]["reason"];

/** Why a tab asks whether the leader is there; of the last two the leader is to do something about it. */
export type Question = "joined" | "silent" | "shown" | "reconnect";

type Message =
  /** To the leader: are you there? */
  | { kind: "hello"; why: Question }
  /** Of the leader: yes, and so far I am; `after`: I am new, and this is how far I had followed the one before. */
  | { kind: "welcome"; at: Position; after: Position | null; shared: Shared; lastId: string | null }
  | { kind: "signal"; at: Position; signal: Frame }
  | { kind: "status"; at: Position; shared: Shared }
  /** Of the leader: I am going. */
  | { kind: "bye"; term: number };

export interface TabsHost {
  /** This tab has the connection from now on. */
  lead(): void;
  /** Another tab took it. */
  follow(): void;
  /** Somebody asks, in a tab that is shown. */
  asked(why: Question): void;
  signal(signal: Frame): void;
  status(shared: Shared): void;
  /** This tab follows a leader, from here on; why it may have missed what came before, if it may. */
  welcome(shared: Shared, lastId: string | null, missed: StaleReason | null): void;
  /** Something was missed on the way. */
  gap(): void;
  lastId(): string | null;
  shared(): Shared;
  log(...what: unknown[]): void;
}

/** How long the leader may take to answer; several tabs that wait for it do not all lose patience at once. */
const ANSWER_MS = 2000;
const JITTER_MS = 500;

/**
 * One tab among those of the same user and url. A lock makes one of them the leader, which tells the others all that
 * it dispatches, before it does: numbered, so that a tab notices what it has missed.
 *
 * The browser gives a lock on when its tab goes, but not when that is frozen or hangs. So a tab that is shown and does
 * not hear from the leader takes the lock away from it. The old leader learns that when it wakes; what it says until then
 * has an old term and is not listened to.
 */
export class Tabs {
  leader = false;
  private channel: ChannelLike | null = null;
  private locks: LocksLike | null = null;
  private position: Position | null = null;
  /** How far it had followed the leader of each earlier term. */
  private readonly passed = new Map<number, number>();
  private after: Position | null = null;
  private heardAt = 0;
  private silence: unknown = null;
  private answer: unknown = null;
  /** Each request for the lock has a number, so that a late grant or loss of an older one is of no account. */
  private request = 0;
  private queued: AbortController | null = null;
  private release: (() => void) | null = null;

  constructor(
    private readonly environment: Environment,
    private readonly options: { name: string; silenceMs: number; share: boolean },
    private readonly host: TabsHost,
  ) {}

  /** Becomes the leader, or follows one. */
  join(): void {
    const { BroadcastChannel, storage } = this.environment;
    const locks = this.environment.locks ?? (storage && new Leases(this.environment, storage));
    if (!this.options.share || !BroadcastChannel || !locks) {
      this.leader = true;
      this.host.lead();
      return;
    }
    try {
      this.channel = new BroadcastChannel(this.options.name);
    } catch (error) {
      this.alone(error); // Firefox, when it may store nothing for this site
      return;
    }
    this.channel.onmessage = (message: MessageEvent<Message>) => this.take(message.data);
    this.locks = locks;
    this.queue(locks);
  }

  /** Lets go of everything; another tab takes over. */
  leave(): void {
    if (this.leader && this.position) this.post({ kind: "bye", term: this.position.term });
    this.leader = false;
    this.unlock();
    this.environment.clearTimeout(this.silence);
    this.answered();
    this.channel?.close();
    this.channel = null;
  }

  /** Asks the leader whether it is there; if it does not answer while this tab is shown, this one takes its place. */
  ask(why: Question): void {
    if (this.leader || !this.channel) return;
    this.post({ kind: "hello", why });
    this.expect();
  }

  /** Tells the other tabs; for the leader. */
  signal(signal: Frame): void {
    if (this.channel && this.position) this.post({ kind: "signal", at: this.next(this.position), signal });
  }

  /** Tells the other tabs; for the leader. */
  status(shared: Shared): void {
    if (this.channel && this.position) this.post({ kind: "status", at: this.next(this.position), shared });
  }

  private next(position: Position): Position {
    this.position = { term: position.term, n: position.n + 1 };
    return this.position;
  }

  /** Waits for the lock, and follows who has it. */
  private queue(locks: LocksLike): void {
    this.queued = new AbortController();
    this.hold(locks, { signal: this.queued.signal });
    this.ask("joined");
    this.heardAt = this.environment.now();
    this.watch();
  }

  private steal(locks: LocksLike): void {
    this.host.log("the tab with the connection does not answer: this one takes it");
    this.unlock();
    this.hold(locks, { steal: true });
  }

  private hold(locks: LocksLike, options: { signal: AbortSignal } | { steal: true }): void {
    const request = ++this.request;
    const held = () =>
      new Promise<void>((release) => {
        if (request !== this.request) return release();
        this.release = release;
        this.queued = null;
        this.lead();
      });
    // In a function of its own: what it throws is what it would reject with.
    const asked = (async () => locks.request(this.options.name, options, held))();
    asked.catch((error: unknown) => {
      if (request !== this.request) return;
      if (error instanceof DOMException && error.name === "AbortError") this.robbed(locks);
      else this.alone(error);
    });
  }

  private unlock(): void {
    this.request++;
    this.queued?.abort();
    this.queued = null;
    this.release?.();
    this.release = null;
  }

  private lead(): void {
    const term = Math.floor((this.environment.now() + this.environment.random()) * 1000);
    this.after = this.position;
    this.position = { term: Math.max(term, (this.position?.term ?? 0) + 1), n: 0 };
    this.leader = true;
    this.answered();
    this.environment.clearTimeout(this.silence);
    this.welcome();
    this.host.lead();
  }

  private robbed(locks: LocksLike): void {
    this.host.log("another tab has taken the connection");
    if (this.leader) this.host.follow();
    this.leader = false;
    this.release = null;
    this.queue(locks);
  }

  /** There are locks and channels, and this page may not use them: as if there were none. */
  private alone(error: unknown): void {
    this.host.log("no connection shared between tabs:", error);
    this.leave();
    this.leader = true;
    this.host.lead();
  }

  private welcome(): void {
    if (!this.position) return;
    const after = this.position.n === 0 ? this.after : null;
    const { lastId, shared } = { lastId: this.host.lastId(), shared: this.host.shared() };
    this.post({ kind: "welcome", at: this.position, after, shared, lastId });
  }

  private take(message: Message): void {
    if (message.kind === "hello") {
      if (!this.leader) return;
      this.welcome();
      this.host.asked(message.why);
    } else if (!this.leader) {
      this.hear(message);
    }
  }

  private hear(message: Exclude<Message, { kind: "hello" }>): void {
    const known = this.position;
    const term = message.kind === "bye" ? message.term : message.at.term;
    if (known && term < known.term) return;
    if (message.kind === "bye") {
      this.expect();
      return;
    }
    this.heardAt = this.environment.now();
    this.answered();
    if (message.kind === "welcome") this.follow(message);
    else if (!known || term > known.term) this.ask("joined");
    else if (message.at.n > known.n) {
      const missed = message.at.n > known.n + 1;
      this.position = message.at;
      if (missed) this.host.gap();
      if (message.kind === "signal") this.host.signal(message.signal);
      else this.host.status(message.shared);
    }
  }

  /** A welcome says where the leader is. Whether this tab is there too, or further, shows by its own position or id. */
  private follow({ at, after, shared, lastId }: Message & { kind: "welcome" }): void {
    const known = this.position;
    const own = this.host.lastId();
    if (known) this.passed.set(known.term, known.n);
    const further = [at, after].some((place) => place && (this.passed.get(place.term) ?? -1) >= place.n);
    const missed = !further && (own === null || own !== lastId);
    this.position = at;
    this.host.welcome(shared, lastId, missed ? (known === null ? "no_id" : "missed") : null);
  }

  private watch(): void {
    this.environment.clearTimeout(this.silence);
    const now = this.environment.now();
    this.heardAt = Math.min(this.heardAt, now); // the clock may have been set back
    const quiet = now - this.heardAt;
    if (quiet >= this.options.silenceMs) this.ask("silent");
    const wait = quiet >= this.options.silenceMs ? this.options.silenceMs : this.options.silenceMs - quiet;
    this.silence = this.environment.setTimeout(() => this.watch(), wait);
  }

  private expect(): void {
    if (!this.environment.visible()) return;
    this.answer ??= this.environment.setTimeout(
      () => {
        this.answer = null;
        if (this.locks && this.environment.visible()) this.steal(this.locks);
      },
      ANSWER_MS + this.environment.random() * JITTER_MS,
    );
  }

  private answered(): void {
    this.environment.clearTimeout(this.answer);
    this.answer = null;
  }

  private post(message: Message): void {
    try {
      this.channel?.postMessage(message);
    } catch (error) {
      this.host.log("could not tell the other tabs:", error);
    }
  }
}
