// The objects of the API, as its serializers write them. Times are ISO 8601, amounts decimal strings.

export type Role = "manager" | "foreman";

export interface User {
  id: number;
  username: string;
  name: string;
  role: Role;
  /** "Менеджер" or "Прораб" */
  role_name: string;
}

export interface Project {
  id: number;
  name: string;
  address: string;
  /** Of those that the user may see. */
  estimates_count: number;
  created_at: string;
  updated_at: string;
}

export const STATUSES = ["Черновик", "На согласовании", "Согласована", "Отклонена"] as const;
export type Status = (typeof STATUSES)[number];

export interface Estimate {
  id: number;
  number: string;
  project: number;
  project_name: string;
  foreman: number | null;
  foreman_name: string | null;
  creator: number | null;
  creator_name: string | null;
  status: Status;
  /** Roubles with kopecks: "12500.00" */
  amount: string;
  comment: string;
  created_at: string;
  updated_at: string;
}

/** Why the server answers 404 to a foreman who had the estimate. */
export type Gone = "deleted" | "reassigned";

/** An estimate that was loaded, and what an event said of it since. */
export interface KnownEstimate extends Estimate {
  gone?: Gone | undefined;
}

export interface EstimateInput {
  number?: string;
  project?: number | null;
  foreman?: number | null;
  status?: Status;
  amount?: string;
  comment?: string;
}

export interface ProjectInput {
  name?: string;
  address?: string;
}

/** Who did it; null if no user did, but a command, say. */
interface Actor {
  actor_id: number | null;
  actor_name: string | null;
}

/** The data of estimate.created, .updated and .deleted. */
export interface EstimateEvent extends Actor {
  estimate_id: number;
  estimate_number: string;
  project_id: number;
  project_name: string;
  foreman_id: number | null;
  foreman_name: string | null;
  creator_id: number | null;
  creator_name: string | null;
  status: Status;
  created_at: string;
}

/** The data of project.created and .updated. */
export interface ProjectEvent extends Actor {
  project_id: number;
  project_name: string;
}

declare module "sse-react" {
  interface SSEEvents {
    "estimate.created": EstimateEvent;
    "estimate.updated": EstimateEvent;
    "estimate.deleted": EstimateEvent;
    "project.created": ProjectEvent;
    "project.updated": ProjectEvent;
  }
}
