import { createStore, useStore } from "./store";
import type { User } from "./types";

export interface Session {
  token: string;
  user: User;
}

interface State {
  session: Session | null;
  /** Why there is no session any more; the login page says it. */
  notice: string;
  /** The user logged out: who logs in next need not be led back to where this one was. */
  left: boolean;
}

const KEY = "smeta-session";

/** What the storage has; null too where it is absent, forbidden or holds something else. */
function read(): Session | null {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "null") as Session | null;
    return found?.token && found.user ? found : null;
  } catch {
    return null;
  }
}

function write(session: Session | null) {
  try {
    if (session) localStorage.setItem(KEY, JSON.stringify(session));
    else localStorage.removeItem(KEY);
  } catch {
    // Without a storage the session lasts as long as the page.
  }
}

const store = createStore<State>({ session: read(), notice: "", left: false });

/** Who is logged in: one user in all tabs of the browser. */
export const session = {
  get: () => store.get().session,

  start(next: Session) {
    write(next);
    store.set({ session: next, notice: "", left: false });
  },

  /** The same session, what is known of its user is newer. */
  update(user: User) {
    const now = session.get();
    if (now && JSON.stringify(now.user) !== JSON.stringify(user)) session.start({ ...now, user });
  },

  /** Ends the session of this token, without a notice if the user wants it; one that was begun meanwhile stays. */
  end(token: string, notice = "") {
    if (session.get()?.token !== token) return;
    write(null);
    store.set({ session: null, notice, left: notice === "" });
  },

  /** Tells the login page what became known after the end. */
  explain(notice: string) {
    if (!session.get()) store.set((now) => ({ ...now, notice }));
  },
};

/** Follows logins and logouts of the other tabs. */
function followStorage(event: StorageEvent) {
  if (event.key !== KEY && event.key !== null) return;
  const before = session.get();
  const now = read();
  if (JSON.stringify(before) === JSON.stringify(now)) return;
  const ended = before !== null && now === null;
  store.set({
    session: now,
    notice: ended ? "Сеанс завершён в другой вкладке. Войдите снова." : "",
    left: ended,
  });
}

window.addEventListener("storage", followStorage);

export const useSession = () => useStore(store);
