import { useQuery } from "@tanstack/react-query";
import { useSearchParams } from "react-router";
import { useMe } from "../me";
import { EstimateForm } from "../parts/estimate-form";
import { isManager } from "../permissions";
import { queries } from "../queries";
import { LoadError, Loading, PageHeading } from "../ui/page";
import { BackLink } from "./estimate";

export function NewEstimatePage() {
  const [params] = useSearchParams();
  const choices = useChoices();
  const wanted = params.get("project");
  return (
    <section className="narrow">
      <BackLink />
      <div className="page-head">
        <PageHeading title="Новая смета" />
      </div>
      {choices.error && <LoadError error={choices.error} retry={choices.retry} />}
      {choices.data && (
        <EstimateForm
          {...choices.data}
          // One project alone is no choice.
          project={
            choices.data.projects.find(({ id }, _, all) => String(id) === wanted || all.length === 1)?.id
          }
        />
      )}
      {!choices.data && !choices.error && <Loading />}
    </section>
  );
}

/** What the form's lists offer; the foremen are for managers only. */
export function useChoices() {
  const manager = isManager(useMe());
  const projects = useQuery(queries.projects);
  const foremen = useQuery({ ...queries.foremen, enabled: manager });
  const complete = projects.data && (foremen.data || !manager);
  return {
    data: complete ? { projects: projects.data, foremen: foremen.data ?? [] } : undefined,
    error: complete ? null : (projects.error ?? foremen.error),
    retry() {
      if (projects.isError) void projects.refetch();
      if (foremen.isError) void foremen.refetch();
    },
  };
}
