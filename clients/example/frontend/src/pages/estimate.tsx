import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useRef, useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { ApiError } from "../api";
import { money, quoted, when } from "../format";
import { useFreshness } from "../live/fresh";
import { useMe } from "../me";
import { FreshChip } from "../parts/projects";
import { canDelete, canEdit, isManager } from "../permissions";
import { queries, useDeleteEstimate, useSetStatus } from "../queries";
import type { Estimate, Status, User } from "../types";
import { Confirm, FormError } from "../ui/dialog";
import { Back, Pencil } from "../ui/icons";
import { LoadError, Loading, PageHeading } from "../ui/page";
import { StatusBadge } from "../ui/status-badge";

const isMissing = (error: Error | null) => error instanceof ApiError && error.status === 404;

/** The estimate, and a sentence if it is not there any more for this user. */
export function useEstimate(id: number) {
  const me = useMe();
  const query = useQuery(queries.estimate(id));
  const { data, error } = query;
  const missing = isMissing(error);
  let gone: string | undefined;
  if (data?.gone === "deleted" || (missing && isManager(me))) gone = "Эту смету удалили.";
  else if (data?.gone === "reassigned") gone = "Эту смету передали другому прорабу.";
  else if (missing) gone = "Эту смету удалили или передали другому прорабу.";
  return { query, gone, neverSeen: missing && !data };
}

export function BackLink() {
  return (
    <Link to="/" className="back">
      <Back />
      Все сметы
    </Link>
  );
}

/** Nobody has such an estimate, or this user may not see it. */
export function NotFound() {
  return (
    <section>
      <PageHeading title="Смета не найдена" />
      <p>Её нет, или она назначена не вам.</p>
      <BackLink />
    </section>
  );
}

export function EstimatePage() {
  const id = Number(useParams().id);
  const { query, gone, neverSeen } = useEstimate(id);

  // What was loaded once stays on the page, also when it is gone from the server.
  if (query.data) return <Details key={id} estimate={query.data} gone={gone} />;
  if (neverSeen) return <NotFound />;
  if (query.error) return <LoadError error={query.error} retry={() => void query.refetch()} />;
  return <Loading />;
}

function Details({ estimate, gone }: { estimate: Estimate; gone: string | undefined }) {
  const me = useMe();
  const navigate = useNavigate();
  const freshness = useFreshness(`estimate:${estimate.id}`);
  const [asked, setAsked] = useState(false);
  const remove = useDeleteEstimate(estimate.id);
  // Its own deletion may come back as an event before the answer does.
  const goneByOthers = remove.isIdle ? gone : undefined;

  return (
    <article className={`details ${freshness ? "fresh" : ""}`}>
      <BackLink />
      <div className="page-head">
        <PageHeading title={estimate.number} />
        {freshness && <FreshChip created={freshness === "created"} />}
        {!goneByOthers && (
          <div className="actions">
            {canEdit(me, estimate) && (
              <Link className="button" to={`/estimates/${estimate.id}/edit`}>
                <Pencil />
                Изменить
              </Link>
            )}
            {canDelete(me, estimate) && (
              <button type="button" className="button danger-text" onClick={() => setAsked(true)}>
                Удалить
              </button>
            )}
          </div>
        )}
      </div>
      {goneByOthers && (
        <p className="notice warning" role="alert">
          {goneByOthers} Ниже то, что было в ней в последний раз.
        </p>
      )}
      <dl className="card facts">
        <Fact name="Статус">
          {goneByOthers ? <StatusBadge status={estimate.status} /> : <StatusSteps estimate={estimate} />}
        </Fact>
        <Fact name="Сумма">
          <span className="amount">{money(estimate.amount)}</span>
        </Fact>
        <Fact name="Проект">
          <Link to={`/?project=${estimate.project}`}>{estimate.project_name}</Link>
        </Fact>
        <Fact name="Прораб">{estimate.foreman_name || <span className="quiet">Не назначен</span>}</Fact>
        <Fact name="Комментарий">
          {estimate.comment ? (
            <span className="comment">{estimate.comment}</span>
          ) : (
            <span className="quiet">Нет</span>
          )}
        </Fact>
        <Fact name="Кто создал">{estimate.creator_name || "—"}</Fact>
        <Fact name="Создана">
          <time dateTime={estimate.created_at}>{when(estimate.created_at)}</time>
        </Fact>
        <Fact name="Изменена">
          <time dateTime={estimate.updated_at}>{when(estimate.updated_at)}</time>
        </Fact>
      </dl>
      {asked && (
        <Confirm
          title="Удалить смету?"
          action="Удалить"
          busy={remove.isPending}
          error={remove.error?.message}
          onClose={() => setAsked(false)}
          onConfirm={() => remove.mutate(undefined, { onSuccess: () => navigate("/") })}
        >
          Смета {quoted(estimate.number)} исчезнет у всех, вернуть её будет нельзя.
        </Confirm>
      )}
    </article>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** The usual next steps; any other status is set in the form. */
function nextStatuses(me: User, estimate: Estimate): readonly [Status, string][] {
  if (estimate.status === "Черновик") return [["На согласовании", "Отправить на согласование"]];
  if (estimate.status !== "На согласовании") return [];
  if (!isManager(me)) return [["Черновик", "Вернуть в черновики"]];
  return [
    ["Согласована", "Согласовать"],
    ["Отклонена", "Отклонить"],
  ];
}

function StatusSteps({ estimate }: { estimate: Estimate }) {
  const me = useMe();
  const setStatus = useSetStatus(estimate.id);
  const line = useRef<HTMLDivElement>(null);

  function step(status: Status) {
    // The button that was pressed is gone then; the focus must not be.
    setStatus.mutate(status, { onSuccess: () => line.current?.focus() });
  }

  return (
    <div ref={line} tabIndex={-1} className="status-line">
      <StatusBadge status={estimate.status} />
      {nextStatuses(me, estimate).map(([status, action]) => (
        <button
          key={status}
          type="button"
          className="button small"
          disabled={setStatus.isPending}
          onClick={() => step(status)}
        >
          {action}
        </button>
      ))}
      {setStatus.error && <FormError>{setStatus.error.message}</FormError>}
    </div>
  );
}
