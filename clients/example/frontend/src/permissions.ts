import { type Estimate, STATUSES, type Status, type User } from "./types";

// What the server would allow. It decides; this is only for what the page offers.

export const isManager = (user: User) => user.role === "manager";

/** The statuses that the user may set. */
export function statusesFor(user: User): readonly Status[] {
  return isManager(user) ? STATUSES : ["Черновик", "На согласовании"];
}

/** What was approved or rejected a foreman leaves as it is. */
export function canEdit(user: User, estimate: Estimate): boolean {
  return statusesFor(user).includes(estimate.status);
}

export function canDelete(user: User, estimate: Estimate): boolean {
  return isManager(user) || (estimate.foreman === user.id && estimate.status === "Черновик");
}
