import { type Estimate, STATUSES, type Status, type User } from "./types";

// What the server would allow. It decides; this is only for what the page offers.

export const isManager = (user: User) => user.role === "manager";

/** The statuses that the user may set. */
export function statusesFor(user: User): readonly Status[] {
  return isManager(user) ? STATUSES : ["Черновик", "На согласовании"];
}

export function canDelete(user: User, estimate: Estimate): boolean {
  return isManager(user) || (estimate.foreman === user.id && estimate.status === "Черновик");
}
