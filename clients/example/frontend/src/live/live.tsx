import { useQueryClient } from "@tanstack/react-query";
import { useSSEEvent } from "sse-react";
import { type QueryMap, useSSEQueries } from "sse-react/query";
import { useMe } from "../me";
import { isManager } from "../permissions";
import { keys } from "../queries";
import type { EstimateEvent, Gone, KnownEstimate, User } from "../types";
import { toast } from "../ui/toasts";
import { isNews } from "./clock";
import { isEcho } from "./echo";
import { markFresh } from "./fresh";
import { estimateSentence, isMine, projectSentence } from "./words";

const ALL = [keys.estimates, keys.projects];

/** May this user not see the estimate any more? */
function goneFor(me: User, event: string, data: EstimateEvent): Gone | undefined {
  if (event === "estimate.deleted") return "deleted";
  return isManager(me) || data.foreman_id === me.id ? undefined : "reassigned";
}

/** What events do to the pages: fetch what changed, highlight it, and tell what somebody else did. */
export function Live() {
  const me = useMe();
  const client = useQueryClient();

  /** Notes at an estimate that was loaded that it is gone, or back again. */
  async function mark(id: number, gone: Gone | undefined) {
    const queryKey = keys.estimate(id);
    const known = client.getQueryData<KnownEstimate>(queryKey);
    if (!known || known.gone === gone) return;
    await client.cancelQueries({ queryKey }); // what is under way may be older
    client.setQueryData<KnownEstimate>(queryKey, { ...known, gone });
  }

  const changes: QueryMap = {
    // The projects count their estimates.
    "estimate.*": (data: EstimateEvent, { event }) => [
      keys.lists,
      keys.projects,
      // What is loaded of an estimate that is gone stays: the server has nothing better.
      ...(goneFor(me, event, data) && client.getQueryData(keys.estimate(data.estimate_id))
        ? []
        : [keys.estimate(data.estimate_id)]),
    ],
    // The estimates bear the name of their project.
    "project.*": [keys.projects, keys.estimates],
  };
  useSSEQueries(changes, { all: ALL });

  useSSEEvent(["estimate.created", "estimate.updated", "estimate.deleted"], (data, { event, timestamp }) => {
    const about = `estimate:${data.estimate_id}`;
    const gone = goneFor(me, event, data);
    void mark(data.estimate_id, gone);
    if (isEcho(event, data.estimate_id) || isMine(event, data, me) || !isNews(timestamp)) return;
    if (!gone) markFresh(about, event === "estimate.created" ? "created" : "updated");
    const to = gone ? undefined : `/estimates/${data.estimate_id}`;
    toast({ about, text: estimateSentence(event, data, me), to });
  });

  useSSEEvent(["project.created", "project.updated"], (data, { event, timestamp }) => {
    if (isEcho(event, data.project_id) || isMine(event, data, me) || !isNews(timestamp)) return;
    const about = `project:${data.project_id}`;
    markFresh(about, event === "project.created" ? "created" : "updated");
    toast({ about, text: projectSentence(event, data), to: `/?project=${data.project_id}` });
  });

  return null;
}
