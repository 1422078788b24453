import {
  keepPreviousData,
  QueryClient,
  queryOptions,
  useMutation,
  useQueryClient,
} from "@tanstack/react-query";
import { ApiError, api, type EstimateFilter } from "./api";
import { expectEcho } from "./live/echo";
import type { Estimate, EstimateInput, KnownEstimate, ProjectInput } from "./types";

export const keys = {
  me: ["me"],
  foremen: ["foremen"],
  projects: ["projects"],
  estimates: ["estimates"],
  lists: ["estimates", "list"],
  list: (filter: EstimateFilter) => ["estimates", "list", filter],
  estimate: (id: number) => ["estimates", "one", id],
} as const;

/** After so long a page that is opened asks again; events say what changed in between. */
const STALE_MS = 5_000;

export const queries = {
  me: queryOptions({ queryKey: keys.me, queryFn: ({ signal }) => api.me(signal) }),
  foremen: queryOptions({ queryKey: keys.foremen, queryFn: ({ signal }) => api.foremen(signal) }),
  projects: queryOptions({ queryKey: keys.projects, queryFn: ({ signal }) => api.projects(signal) }),
  estimates: (filter: EstimateFilter) =>
    queryOptions({
      queryKey: keys.list(filter),
      queryFn: ({ signal }) => api.estimates(filter, signal),
      placeholderData: keepPreviousData,
    }),
  estimate: (id: number) =>
    queryOptions({
      queryKey: keys.estimate(id),
      queryFn: ({ signal }): Promise<KnownEstimate> => api.estimate(id, signal),
      // What is known to be gone need not be asked for.
      enabled: ({ state }) => !state.data?.gone,
    }),
};

/** What the server refused it will refuse again; no answer or a 5xx may be over in a second. */
function retry(failures: number, error: Error): boolean {
  const refused = error instanceof ApiError && error.status >= 400 && error.status < 500;
  return !refused && failures < 2;
}

export function makeQueryClient(): QueryClient {
  return new QueryClient({ defaultOptions: { queries: { retry, staleTime: STALE_MS } } });
}

/** Creates an estimate, or changes the one with this id. */
export function useSaveEstimate(id?: number) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (input: EstimateInput) =>
      id === undefined
        ? api.createEstimate(input)
        : expectEcho("estimate.updated", id, () => api.updateEstimate(id, input)),
    onSuccess: (estimate) => {
      client.setQueryData(keys.estimate(estimate.id), estimate);
      void client.invalidateQueries({ queryKey: keys.lists });
      void client.invalidateQueries({ queryKey: keys.projects });
    },
  });
}

/** Changes the status at once on the page, and back if the server refuses. */
export function useSetStatus(id: number) {
  const client = useQueryClient();
  const queryKey = keys.estimate(id);
  return useMutation({
    mutationFn: (status: Estimate["status"]) =>
      expectEcho("estimate.updated", id, () => api.updateEstimate(id, { status })),
    onMutate: async (status) => {
      await client.cancelQueries({ queryKey });
      const before = client.getQueryData<Estimate>(queryKey);
      if (before) client.setQueryData(queryKey, { ...before, status });
      return before;
    },
    onSuccess: (estimate) => client.setQueryData(queryKey, estimate),
    onError: (_error, _status, before) => client.setQueryData(queryKey, before),
    onSettled: () => void client.invalidateQueries({ queryKey: keys.lists }),
  });
}

export function useDeleteEstimate(id: number) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: () => expectEcho("estimate.deleted", id, () => api.deleteEstimate(id)),
    onSuccess: () => {
      void client.invalidateQueries({ queryKey: keys.lists });
      void client.invalidateQueries({ queryKey: keys.projects });
    },
  });
}

/** Creates a project, or changes the one with this id. */
export function useSaveProject(id?: number) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (input: ProjectInput) =>
      id === undefined
        ? expectEcho("project.created", null, () => api.createProject(input))
        : expectEcho("project.updated", id, () => api.updateProject(id, input)),
    onSuccess: () => {
      void client.invalidateQueries({ queryKey: keys.projects });
      void client.invalidateQueries({ queryKey: keys.estimates });
    },
  });
}
