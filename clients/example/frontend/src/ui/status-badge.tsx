import type { Status } from "../types";

const TONES: Record<Status, string> = {
  Черновик: "draft",
  "На согласовании": "pending",
  Согласована: "approved",
  Отклонена: "rejected",
};

export function StatusBadge({ status }: { status: Status }) {
  return <span className={`badge ${TONES[status] ?? "draft"}`}>{status}</span>;
}
