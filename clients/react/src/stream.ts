import type { Browser, EventSourceLike } from "./environment.js";

/** One message of the server, taken apart. */
export interface Frame {
  event: string;
  data: unknown;
  id: string | null;
  timestamp?: number;
}

/** Why a stream ended. `refused`: the answer was not an event stream. */
export type StreamEnd = "refused" | "error" | "silence";

export interface StreamHost {
  frame(frame: Frame): void;
  /** Called once; the EventSource is closed by then. */
  end(why: StreamEnd): void;
}

/**
 * One EventSource from its start to its first error. It does not reconnect by itself: a new one can say which
 * token and which last id it has now.
 */
export class Stream {
  private readonly source: EventSourceLike;
  private closed = false;
  private timer: unknown;
  private heardAt: number;
  private lastEventId = "";

  constructor(
    private readonly environment: Browser,
    url: string,
    private readonly silenceMs: number,
    private readonly host: StreamHost,
  ) {
    this.heardAt = environment.now();
    this.source = new environment.EventSource(url);
    this.source.onmessage = (message) => this.take(message);
    this.source.onerror = () => this.end(this.source.readyState === 2 ? "refused" : "error");
    this.timer = environment.setTimeout(() => this.watch(), silenceMs);
  }

  /** Nothing is called any more. */
  close(): void {
    this.closed = true;
    this.environment.clearTimeout(this.timer);
    this.source.close();
  }

  /** Ends the stream if nothing came for too long; timers of a hidden tab or a sleeping machine are late. */
  check(): void {
    if (this.quietMs() >= this.silenceMs) this.end("silence");
  }

  private watch(): void {
    this.check();
    if (!this.closed) {
      this.timer = this.environment.setTimeout(() => this.watch(), this.silenceMs - this.quietMs());
    }
  }

  private quietMs(): number {
    const now = this.environment.now();
    this.heardAt = Math.min(this.heardAt, now); // the clock may have been set back
    return now - this.heardAt;
  }

  private end(why: StreamEnd): void {
    if (this.closed) return;
    this.close();
    this.host.end(why);
  }

  private take(message: MessageEvent<string>): void {
    this.heardAt = this.environment.now();
    const frame = parseFrame(message, this.lastEventId);
    this.lastEventId = message.lastEventId;
    if (frame) this.host.frame(frame);
    else console.warn("[SSE] skipped a message that is no event:", message.data);
  }
}

/**
 * Null if it is not JSON, or has no `event`. What has no `data` (connected: `message`) is its own data. An EventSource
 * repeats the id of `before` with a message that has none.
 */
export function parseFrame(message: { data: string; lastEventId: string }, before: string): Frame | null {
  let json: unknown;
  try {
    json = JSON.parse(message.data);
  } catch {
    return null;
  }
  if (typeof json !== "object" || json === null) return null;
  const { event, data, timestamp, ...rest } = json as Record<string, unknown>;
  if (typeof event !== "string" || event === "") return null;
  const frame: Frame = { event, data: data === undefined ? rest : data, id: null };
  if (message.lastEventId !== "" && message.lastEventId !== before) frame.id = message.lastEventId;
  if (typeof timestamp === "number") frame.timestamp = timestamp;
  return frame;
}
