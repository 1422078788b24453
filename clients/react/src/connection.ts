import type { Browser } from "./environment.js";
import type { LostReason } from "./events.js";
import { count, plan, type RetryOptions } from "./policy.js";
import { type Frame, Stream, type StreamEnd } from "./stream.js";

/** Why a token is asked for. `denied`, `revoked`: the last one is not taken any more. */
export type TokenReason = "first" | "retry" | "denied" | "revoked";

/**
 * A token, or how to get one, called anew for each attempt. Null, or an empty one, is "there is none, and there will
 * be none": denied. A promise that is rejected is a failed attempt.
 */
export type Token = string | ((reason: TokenReason) => string | null | Promise<string | null>);

/** What a connection may go through. `lost`: the attempts are used up. The last two: until there is another token. */
export type ConnectionStatus = "connecting" | "open" | "waiting" | "lost" | "denied" | "revoked";

/** A token that the server did not take, and how it said so. Only a hash of it is kept. */
export interface RefusedToken {
  hash: number;
  status: "denied" | "revoked";
}

/** What outlives a connection: the next one, perhaps in another tab, begins with it. */
export interface Carried {
  /** Why there is no stream; null: there is one, or there has been no failure yet. */
  lost: LostReason | null;
  /** The stream began where the one before had ended: there is no gap. */
  resumed: boolean;
  refused: RefusedToken | null;
}

/** `silenceMs`: a stream on which nothing at all came for so long is dead. */
export interface ConnectionOptions extends RetryOptions {
  url: string;
  silenceMs: number;
}

export interface ConnectionHost {
  /** What to resume from. */
  lastId(): string | null;
  token(): Token;
  /** What the bus is to hear: a frame, or what the connection has to say itself. */
  signal(frame: Frame): void;
  /** `carried` has changed by then, too. */
  status(status: ConnectionStatus, attempt: number): void;
  /** No more comes. */
  over(status: RefusedToken["status"]): void;
  log(...what: unknown[]): void;
}

const HEAD_MS = 10_000;
/** A token function that takes so long has failed. */
const TOKEN_MS = 10_000;

/** Keeps one stream open, as long as it is not stopped, or its token is not taken. */
export class Connection {
  carried: Carried;
  /** Each attempt has a number; what an older one still waited for is of no account. */
  private run = 0;
  private stream: Stream | null = null;
  private head: AbortController | null = null;
  private timer: unknown = null;
  private failures = 0;
  private openedAt: number | null = null;
  private triedAt = 0;
  private reason: TokenReason = "first";
  private status: ConnectionStatus = "connecting";

  constructor(
    private readonly environment: Browser,
    private readonly options: ConnectionOptions,
    private readonly host: ConnectionHost,
    carried: Carried,
  ) {
    this.carried = { lost: carried.lost, resumed: carried.resumed, refused: carried.refused };
  }

  /** Begins, or begins anew with an open stream as well, and counts anew. */
  connect(): void {
    this.failures = 0;
    void this.attempt(this.reason);
  }

  /** Leaves nothing open; no more is said. */
  stop(): void {
    this.run++;
    this.close();
  }

  /** The tab is shown: a stream may have died while its timers slept; one that is lost is tried at once. */
  shown(): void {
    this.stream?.check();
    if (this.idle) this.connect();
  }

  online(): void {
    if (this.status === "waiting" || this.status === "lost") this.connect();
  }

  offline(): void {
    if (this.stream) this.failed("offline");
  }

  /** Another tab is looked at: so a lost connection is tried now and then, as if this one was shown. */
  watched(): void {
    this.stream?.check();
    const { slowMs } = this.options;
    const now = this.environment.now();
    this.triedAt = Math.min(this.triedAt, now); // the clock may have been set back
    const due = slowMs > 0 && now - this.triedAt >= slowMs;
    if (this.idle && due) void this.attempt(this.reason);
  }

  /** Nothing is under way that would end by itself. */
  private get idle(): boolean {
    return this.status === "lost" || (this.status === "waiting" && this.timer === null);
  }

  private async attempt(reason: TokenReason): Promise<void> {
    this.close();
    const run = ++this.run;
    this.triedAt = this.environment.now();
    this.reason = reason;
    this.set("connecting");
    let token: string | null;
    try {
      const source = this.host.token();
      token = typeof source === "string" ? source : await this.answer(source(reason));
    } catch (error) {
      this.host.log("no token:", error);
      if (run === this.run) this.failed("token");
      return;
    }
    if (run !== this.run) return;
    this.environment.clearTimeout(this.timer);
    this.timer = null;
    const { refused } = this.carried;
    if (!token) this.over(refused?.status ?? "denied");
    else if (refused && hash(token) === refused.hash) this.refuse(refused.status);
    else this.open(token);
  }

  /** What it gives, in time; the timer is that of this attempt. */
  private answer(token: string | null | Promise<string | null>): Promise<string | null> {
    const late = new Promise<never>((_, reject) => {
      this.timer = this.environment.setTimeout(() => reject(new Error(`none within ${TOKEN_MS} ms`)), TOKEN_MS);
    });
    return Promise.race([token, late]);
  }

  private open(token: string): void {
    const { url, silenceMs } = this.options;
    const from = this.host.lastId();
    const target =
      `${url}${url.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}` +
      (from === null ? "" : `&lastEventId=${encodeURIComponent(from)}`);
    const run = this.run;
    this.stream = new Stream(this.environment, target, silenceMs, {
      frame: (frame) => this.take(frame, from, token),
      end: (why) => void this.ended(run, why, target, token),
    });
  }

  private take(frame: Frame, from: string | null, token: string): void {
    if (frame.event === "auth.revoked") {
      this.carried.refused = { hash: hash(token), status: "revoked" };
      this.refuse("revoked");
      return;
    }
    const first = this.openedAt === null;
    const run = this.run;
    const answered = frame.event === "connected" && from !== null;
    const resumed = answered && frame.id !== null;
    if (first) this.opened(resumed);
    if (run === this.run) this.host.signal(frame);
    // A page that named an id and is not resumed is told to resync: that is the next frame.
    if (first && !answered && run === this.run) {
      this.host.signal({ event: "system.stale", data: { reason: "no_id" }, id: null });
    }
  }

  private opened(resumed: boolean): void {
    this.openedAt = this.environment.now();
    this.reason = "retry";
    this.carried = { lost: null, resumed, refused: null };
    this.set("open");
  }

  private async ended(run: number, why: StreamEnd, target: string, token: string): Promise<void> {
    if (why !== "refused") return this.failed(why);
    const status = await this.askWhy(target);
    if (run !== this.run) return;
    this.host.log("the stream was refused:", status);
    if (status !== 401 && status !== 403) return this.failed("error");
    this.carried.refused = { hash: hash(token), status: this.reason === "revoked" ? "revoked" : "denied" };
    this.refuse(this.carried.refused.status);
  }

  /** An EventSource does not say what the answer was: the same question again, of which the status can be read. */
  private async askWhy(target: string): Promise<number | null> {
    const head = new AbortController();
    this.head = head;
    const timer = this.environment.setTimeout(() => head.abort(), HEAD_MS);
    try {
      return (await this.environment.fetch(target, { method: "HEAD", cache: "no-store", signal: head.signal })).status;
    } catch {
      return null;
    } finally {
      this.environment.clearTimeout(timer);
    }
  }

  /**
   * This token is not taken. A function is asked for another one: after a denial once, at once; after the end of a
   * session in the way of all failures, because a thousand pages are told so at the same moment.
   */
  private refuse(status: RefusedToken["status"]): void {
    this.host.log("the token is", status);
    const asked = this.reason === "denied" || this.reason === "revoked";
    if (typeof this.host.token() === "string" || asked) this.over(status);
    else if (status === "revoked") this.failed("revoked", "revoked");
    else void this.attempt("denied");
  }

  private over(status: RefusedToken["status"]): void {
    const run = ++this.run;
    this.close();
    this.carried.lost = status;
    this.set(status);
    if (run === this.run) this.host.over(status);
  }

  private failed(why: LostReason, next: TokenReason = this.reason === "revoked" ? "revoked" : "retry"): void {
    const online = this.environment.online();
    const openMs = this.openedAt === null ? 0 : this.environment.now() - this.openedAt;
    this.failures = count(this.options, { failures: this.failures, openMs, online });
    const run = ++this.run;
    this.close();
    this.reason = next;
    const { status, delayMs, slow } = plan(this.options, {
      failures: this.failures,
      online,
      random: this.environment.random(),
    });
    this.host.log("failed:", why, "- next try in", delayMs, "ms");
    this.carried.lost = why;
    this.set(status);
    if (run !== this.run || delayMs === null) return;
    this.timer = this.environment.setTimeout(() => {
      this.timer = null;
      if (!slow || this.environment.visible()) void this.attempt(this.reason);
    }, delayMs);
  }

  private close(): void {
    this.environment.clearTimeout(this.timer);
    this.timer = null;
    this.stream?.close();
    this.stream = null;
    this.head?.abort();
    this.head = null;
    this.openedAt = null;
  }

  private set(status: ConnectionStatus): void {
    this.status = status;
    this.host.status(status, status === "open" ? 0 : Math.min(this.failures, this.options.attempts));
  }
}

/** Tells one token from another (FNV-1a). Other tabs see it, so it is not the token. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  return value >>> 0;
}
