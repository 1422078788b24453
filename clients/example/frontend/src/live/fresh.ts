import { createStore, useStore } from "../store";

/** What somebody else did just now to what a row shows. */
export type Freshness = "created" | "updated";

const SHOWN_MS = 6_000;
const store = createStore<ReadonlyMap<string, Freshness>>(new Map());

/** The latest mark of each key: an earlier one must not end it. */
const marks = new Map<string, symbol>();

function forget(key: string, mark: symbol) {
  if (marks.get(key) !== mark) return;
  marks.delete(key);
  store.set((now) => new Map([...now].filter(([other]) => other !== key)));
}

/** Marks `estimate:7`, say, for as long as somebody needs to see it: in a hidden tab the time does not run. */
export function markFresh(key: string, freshness: Freshness) {
  const mark = Symbol(key);
  marks.set(key, mark);
  store.set((now) => new Map(now).set(key, now.get(key) === "created" ? "created" : freshness));
  whileShown(SHOWN_MS, () => forget(key, mark));
}

/** For a new session. */
export function clearFresh() {
  marks.clear();
  store.set(new Map());
}

export function useFreshness(key: string): Freshness | undefined {
  return useStore(store).get(key);
}

/** Calls back after so long, beginning when the page is shown. */
export function whileShown(ms: number, then: () => void) {
  if (!document.hidden) {
    setTimeout(then, ms);
    return;
  }
  document.addEventListener("visibilitychange", () => whileShown(ms, then), { once: true });
}
