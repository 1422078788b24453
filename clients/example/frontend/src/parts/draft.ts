import { useState } from "react";

export interface Draft<V> {
  values: V;
  set(name: keyof V, value: string): void;
  /** The fields in which the user typed something else than there was. */
  touched: (keyof V)[];
  /** The fields that became something else on the server since, other than what stands in the form. */
  changed: (keyof V)[];
  takeTheirs(): void;
  /** Keeps what the user typed; the other fields become as they are on the server. */
  keepMine(): void;
}

/**
 * What a user types, while the same thing may be changed by others.
 * @param latest what the server has; nothing of it gets into the form unasked.
 */
export function useDraft<V extends Readonly<Record<string, string>>>(latest: V): Draft<V> {
  const [{ base, values }, setState] = useState({ base: latest, values: latest });
  const names = Object.keys(latest) as (keyof V)[];
  const touched = names.filter((name) => values[name] !== base[name]);

  return {
    values,
    touched,
    changed: names.filter((name) => latest[name] !== base[name] && latest[name] !== values[name]),
    set: (name, value) => setState((now) => ({ ...now, values: { ...now.values, [name]: value } })),
    takeTheirs: () => setState({ base: latest, values: latest }),
    keepMine() {
      const typed = Object.fromEntries(touched.map((name) => [name, values[name]]));
      setState({ base: latest, values: { ...latest, ...typed } });
    },
  };
}
