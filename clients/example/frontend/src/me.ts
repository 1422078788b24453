import { createContext, useContext } from "react";
import type { User } from "./types";

/** Who is logged in; there is one wherever the site is shown. */
export const Me = createContext<User | null>(null);

export function useMe(): User {
  const me = useContext(Me);
  if (!me) throw new Error("useMe: nobody is logged in here");
  return me;
}
