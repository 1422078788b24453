import { useQuery } from "@tanstack/react-query";
import { useId } from "react";
import { Link, useSearchParams } from "react-router";
import type { EstimateFilter } from "../api";
import { estimatesCount, money, sum } from "../format";
import { EstimateTable } from "../parts/estimate-table";
import { Projects } from "../parts/projects";
import { queries } from "../queries";
import { STATUSES } from "../types";
import { Plus } from "../ui/icons";
import { LoadError, Loading, PageHeading } from "../ui/page";

/** What the address says: /?project=3&status=Черновик */
function useFilter() {
  const [params, setParams] = useSearchParams();
  const project = Number(params.get("project"));
  const status = params.get("status");
  const filter: EstimateFilter = {};
  if (Number.isInteger(project) && project > 0) filter.project = project;
  if (status && (STATUSES as readonly string[]).includes(status)) filter.status = status;

  function setStatus(next: string) {
    setParams(
      (now) => {
        if (next) now.set("status", next);
        else now.delete("status");
        return now;
      },
      { replace: true },
    );
  }
  return { filter, setStatus };
}

export function EstimatesPage() {
  const { filter, setStatus } = useFilter();
  const estimates = useQuery(queries.estimates(filter));
  const statusId = useId();
  const found = estimates.data;

  return (
    <div className="with-projects">
      <Projects selected={filter.project} />
      <section className="list" aria-busy={estimates.isPlaceholderData}>
        <div className="page-head">
          <PageHeading title="Сметы" />
          <Link
            className="button primary"
            to={`/estimates/new${filter.project ? `?project=${filter.project}` : ""}`}
          >
            <Plus />
            Новая смета
          </Link>
        </div>
        <div className="toolbar">
          <label htmlFor={statusId}>Статус</label>
          <select
            id={statusId}
            value={filter.status ?? ""}
            onChange={(event) => setStatus(event.target.value)}
          >
            <option value="">Любой</option>
            {STATUSES.map((status) => (
              <option key={status}>{status}</option>
            ))}
          </select>
          {found && (
            <p className="totals">
              {estimatesCount(found.length)} на сумму{" "}
              <strong>{money(sum(found.map((one) => one.amount)))}</strong>
            </p>
          )}
        </div>
        {estimates.isError && <LoadError error={estimates.error} retry={() => void estimates.refetch()} />}
        {estimates.isPending && <Loading />}
        {found && found.length > 0 && <EstimateTable estimates={found} />}
        {found?.length === 0 && <Nothing filtered={Boolean(filter.project || filter.status)} />}
      </section>
    </div>
  );
}

function Nothing({ filtered }: { filtered: boolean }) {
  return (
    <div className="empty">
      <p>{filtered ? "Под этот отбор не подходит ни одна смета." : "Смет пока нет."}</p>
      {filtered && (
        <Link className="button" to="/">
          Показать все
        </Link>
      )}
    </div>
  );
}
