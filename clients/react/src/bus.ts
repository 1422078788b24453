import type { EventData, EventHandler, EventMeta, EventName } from "./events.js";

interface Entry {
  handler: EventHandler;
  once: boolean;
}

/** Hands events to whoever listens for their name, `"*"` (all of them) or a prefix such as `"estimate.*"`. */
export class EventBus {
  /** Log every event, with the prefix `[EventBus]`. */
  debug: boolean;
  private readonly entries = new Map<string, Set<Entry>>();

  constructor({ debug = false }: { debug?: boolean } = {}) {
    this.debug = debug;
  }

  /** Calls `handler` for each such event from now on. The function it returns ends that. */
  on<N extends EventName>(name: N, handler: EventHandler<N>): () => void {
    return this.add(name, { handler: handler as EventHandler, once: false });
  }

  /** Like `on`, for the next such event only. */
  once<N extends EventName>(name: N, handler: EventHandler<N>): () => void {
    return this.add(name, { handler: handler as EventHandler, once: true });
  }

  /** Undoes `on` and `once` of this handler under this name. */
  off<N extends EventName>(name: N, handler: EventHandler<N>): void {
    for (const entry of this.entries.get(name) ?? []) {
      if (entry.handler === handler) this.remove(name, entry);
    }
  }

  /**
   * Calls the handlers, in the order in which they were added, the exact name's before the prefixes' before
   * `"*"`. One that throws is logged and does not stop the others. One added meanwhile hears the next event,
   * one removed meanwhile is not called.
   */
  emit<N extends EventName>(name: N, data?: EventData<N>, meta: Partial<EventMeta> = {}): void {
    if (this.debug) console.info("[EventBus]", name, data);
    const whole: EventMeta = { ...meta, event: name };
    const called = patterns(name).flatMap((pattern) =>
      [...(this.entries.get(pattern) ?? [])].map((entry) => ({ pattern, entry })),
    );
    for (const { pattern, entry } of called) {
      if (!this.entries.get(pattern)?.has(entry)) continue;
      if (entry.once) this.remove(pattern, entry);
      try {
        entry.handler(data, whole);
      } catch (error) {
        console.error(`[EventBus] a handler of ${pattern} failed on ${name}:`, error);
      }
    }
  }

  private add(name: string, entry: Entry): () => void {
    const entries = this.entries.get(name) ?? new Set();
    this.entries.set(name, entries.add(entry));
    return () => this.remove(name, entry);
  }

  private remove(name: string, entry: Entry): void {
    const entries = this.entries.get(name);
    if (entries?.delete(entry) && entries.size === 0) this.entries.delete(name);
  }
}

/** `a.b.c` is heard under a.b.c, a.b.*, a.* and *. */
function patterns(name: string): string[] {
  const found = [name];
  for (let dot = name.lastIndexOf("."); dot > 0; dot = name.lastIndexOf(".", dot - 1)) {
    found.push(`${name.slice(0, dot)}.*`);
  }
  return name === "*" ? found : [...found, "*"];
}

/** The bus of whoever names no other. */
export const eventBus = new EventBus();
