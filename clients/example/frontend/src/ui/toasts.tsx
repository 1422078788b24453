import { Link } from "react-router";
import { whileShown } from "../live/fresh";
import { createStore, useStore } from "../store";
import { Close } from "./icons";

interface Toast {
  id: number;
  /** What it is about: the latest news of a thing takes the place of the earlier. */
  about: string;
  text: string;
  /** Where it leads. */
  to?: string | undefined;
}

const SHOWN_MS = 7_000;
/** A burst must not cover the page: the oldest give way, and are counted. */
const AT_MOST = 3;

const store = createStore<{ toasts: readonly Toast[]; more: number }>({ toasts: [], more: 0 });
let lastId = 0;

function dismiss(id: number) {
  store.set(({ toasts, more }) => {
    const left = toasts.filter((toast) => toast.id !== id);
    return { toasts: left, more: left.length > 0 ? more : 0 };
  });
}

/** Tells the user in a corner of the page; screen readers say it too. */
export function toast({ about, text, to }: Omit<Toast, "id">) {
  lastId += 1;
  const id = lastId;
  store.set(({ toasts, more }) => {
    const others = toasts.filter((toast) => toast.about !== about);
    const shown = [...others, { id, about, text, to }].slice(-AT_MOST);
    return { toasts: shown, more: more + (others.length + 1 - shown.length) };
  });
  whileShown(SHOWN_MS, () => dismiss(id));
}

/** For a new session. */
export function clearToasts() {
  store.set({ toasts: [], more: 0 });
}

export function Toasts() {
  const { toasts, more } = useStore(store);
  return (
    <section className="toasts" aria-label="Сообщения" aria-live="polite">
      {more > 0 && <p className="toast-more">и ещё {more}</p>}
      {toasts.map(({ id, text, to }) => (
        <div key={id} className="toast">
          <p>{to ? <Link to={to}>{text}</Link> : text}</p>
          <button
            type="button"
            className="icon-button"
            aria-label="Закрыть сообщение"
            onClick={() => dismiss(id)}
          >
            <Close />
          </button>
        </div>
      ))}
    </section>
  );
}
