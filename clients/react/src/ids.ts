import type { Environment } from "./environment.js";

const SAVE_MS = 250;
const RECENT = 1000;

/**
 * Whether `id` came after `newest`. Ids are `<ms>-<n>` and compared as two numbers; of ids of another form
 * nothing is known but whether they are the same.
 */
export function isNewer(id: string, newest: string | null): boolean {
  if (newest === null) return true;
  const [a, b] = [parse(id), parse(newest)];
  if (!a || !b) return id !== newest;
  return a.ms > b.ms || (a.ms === b.ms && a.n > b.n);
}

function parse(id: string): { ms: number; n: number } | null {
  const match = /^(\d+)-(\d+)$/.exec(id);
  return match ? { ms: Number(match[1]), n: Number(match[2]) } : null;
}

/**
 * The newest id that this page has dispatched, in memory and, so that a reload resumes, in storage. A storage
 * that is not there or throws is done without.
 */
export class LastId {
  newest: string | null = null;
  /** The last ones seen. The newest alone does not tell when it was set back to where a leader is that is behind. */
  private readonly recent = new Set<string>();
  private timer: unknown = null;

  constructor(
    private readonly environment: Environment,
    private readonly key: string,
    private readonly storage: Environment["storage"] | null = environment.storage,
  ) {}

  /**
   * Takes what is stored, unless this page has an id already. What was stored after this page began to load, another
   * tab has stored: it had events that this page's data may be older than, so to resume behind them would be a gap.
   * And what a page shows that was somebody else's before, no event of this user has kept fresh.
   */
  load(): void {
    const { page } = this.environment;
    page.first ??= this.key;
    if (page.first !== this.key) page.first = ""; // nobody resumes here any more, nor the first of them
    if (this.newest !== null || page.first === "") return;
    try {
      const stored: unknown = JSON.parse(this.storage?.getItem(this.key) ?? "null");
      if (isRecord(stored) && stored.at < this.environment.loadedAt) this.newest = stored.id;
    } catch {
      // As if nothing was stored.
    }
  }

  /** Whether the event of this id was seen; if not, it is now. */
  isRepeat(id: string): boolean {
    if (this.recent.has(id) || !isNewer(id, this.newest)) return true;
    this.newest = id;
    this.recent.add(id);
    if (this.recent.size > RECENT) this.recent.delete(this.recent.values().next().value as string);
    return false;
  }

  /** Writes it soon, at most every 250 ms. */
  saveSoon(): void {
    this.timer ??= this.environment.setTimeout(() => this.save(), SAVE_MS);
  }

  /** Writes it now, if there is something to write. */
  save(): void {
    if (this.timer === null) return;
    this.environment.clearTimeout(this.timer);
    this.timer = null;
    try {
      if (this.newest === null) this.storage?.removeItem(this.key);
      else this.storage?.setItem(this.key, JSON.stringify({ id: this.newest, at: this.environment.now() }));
    } catch {
      // It stays in memory.
    }
  }
}

function isRecord(value: unknown): value is { id: string; at: number } {
  const { id, at } = (value ?? {}) as Record<string, unknown>;
  return typeof id === "string" && typeof at === "number";
}
