import { Link } from "react-router";
import { money, shortly } from "../format";
import { useFreshness } from "../live/fresh";
import type { Estimate } from "../types";
import { StatusBadge } from "../ui/status-badge";
import { FreshChip } from "./projects";

/** A table; on a narrow page each row is laid out as a card. */
export function EstimateTable({ estimates }: { estimates: readonly Estimate[] }) {
  return (
    <table className="estimates">
      <caption className="sr-only">Сметы</caption>
      <thead>
        <tr>
          <th scope="col">Номер и проект</th>
          <th scope="col">Прораб</th>
          <th scope="col">Статус</th>
          <th scope="col" className="number">
            Сумма
          </th>
          <th scope="col">Изменена</th>
        </tr>
      </thead>
      <tbody>
        {estimates.map((estimate) => (
          <Row key={estimate.id} estimate={estimate} />
        ))}
      </tbody>
    </table>
  );
}

function Row({ estimate }: { estimate: Estimate }) {
  const freshness = useFreshness(`estimate:${estimate.id}`);
  return (
    <tr className={freshness && "fresh"}>
      <th scope="row">
        <Link to={`/estimates/${estimate.id}`} className="row-link">
          {estimate.number}
        </Link>
        {freshness && <FreshChip created={freshness === "created"} />}
        <span className="project-line">{estimate.project_name}</span>
      </th>
      <td className="cell-foreman">{estimate.foreman_name || <span className="quiet">Не назначен</span>}</td>
      <td className="cell-status">
        <StatusBadge status={estimate.status} />
      </td>
      <td className="cell-amount number">{money(estimate.amount)}</td>
      <td className="cell-when quiet">
        <time dateTime={estimate.updated_at}>{shortly(estimate.updated_at)}</time>
      </td>
    </tr>
  );
}
