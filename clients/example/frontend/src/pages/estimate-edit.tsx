import { useState } from "react";
import { useParams } from "react-router";
import { useMe } from "../me";
import { EstimateForm } from "../parts/estimate-form";
import { canEdit } from "../permissions";
import { LoadError, Loading, PageHeading } from "../ui/page";
import { BackLink, NotFound, useEstimate } from "./estimate";
import { useChoices } from "./estimate-new";

const DECIDED = "Смета согласована или отклонена: изменить её теперь может только менеджер.";

export function EditEstimatePage() {
  const me = useMe();
  const id = Number(useParams().id);
  const { query: estimate, gone, neverSeen } = useEstimate(id);
  const choices = useChoices();
  const decided = estimate.data && !canEdit(me, estimate.data) ? DECIDED : undefined;

  // The form begins with what the server has now, not with what it had when this was last looked at:
  // otherwise it would say at once that somebody changed it meanwhile.
  const [began, setBegan] = useState(false);
  if (!began && estimate.data && !estimate.isFetching) setBegan(true);

  const error = estimate.data ? choices.error : (estimate.error ?? choices.error);
  if (neverSeen) return <NotFound />;
  return (
    <section className="narrow">
      <BackLink />
      <div className="page-head">
        <PageHeading title="Изменить смету" />
      </div>
      {error && (
        <LoadError
          error={error}
          retry={() => {
            choices.retry();
            void estimate.refetch();
          }}
        />
      )}
      {began && estimate.data && choices.data && (
        <EstimateForm key={id} estimate={estimate.data} gone={gone ?? decided} {...choices.data} />
      )}
      {!error && !(began && choices.data) && <Loading />}
    </section>
  );
}
