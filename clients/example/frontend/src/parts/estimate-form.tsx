import { type FormEvent, useEffect, useRef } from "react";
import { Link, useNavigate } from "react-router";
import { ApiError } from "../api";
import { amountOf, money } from "../format";
import { useMe } from "../me";
import { isManager, statusesFor } from "../permissions";
import { useSaveEstimate } from "../queries";
import type { Estimate, EstimateInput, Project, Status, User } from "../types";
import { FormError } from "../ui/dialog";
import { Field } from "../ui/field";
import { type Draft, useDraft } from "./draft";

/** The fields as the controls hold them; ids as strings, "" for none. */
type Values = Record<keyof typeof LABELS, string>;

const LABELS = {
  number: "Номер",
  project: "Проект",
  foreman: "Прораб",
  status: "Статус",
  amount: "Сумма",
  comment: "Комментарий",
};

function valuesOf(estimate: Estimate): Values {
  return {
    number: estimate.number,
    project: String(estimate.project),
    foreman: String(estimate.foreman ?? ""),
    status: estimate.status,
    amount: estimate.amount.replace(/\.00$/, "").replace(".", ","),
    comment: estimate.comment,
  };
}

function inputOf(values: Values, names: readonly (keyof Values)[]): EstimateInput {
  const all: Required<EstimateInput> = {
    number: values.number.trim(),
    project: values.project ? Number(values.project) : null,
    foreman: values.foreman ? Number(values.foreman) : null,
    status: values.status as Status,
    amount: amountOf(values.amount),
    comment: values.comment,
  };
  return Object.fromEntries(names.map((name) => [name, all[name]]));
}

interface Props {
  /** As the server has it now; left out for a new one. */
  estimate?: Estimate;
  /** Why it can't be saved any more. */
  gone?: string | undefined;
  projects: readonly Project[];
  /** Whom a manager may assign. */
  foremen: readonly User[];
  /** The id of the project that a new estimate begins with. */
  project?: number | undefined;
}

export function EstimateForm({ estimate, gone, projects, foremen, project }: Props) {
  const me = useMe();
  const manager = isManager(me);
  const navigate = useNavigate();
  const form = useRef<HTMLFormElement>(null);
  const save = useSaveEstimate(estimate?.id);
  const draft = useDraft<Values>(
    estimate
      ? valuesOf(estimate)
      : {
          number: "",
          project: String(project ?? ""),
          foreman: "",
          status: "Черновик",
          amount: "",
          comment: "",
        },
  );
  const errors: Readonly<Record<string, string>> = save.error instanceof ApiError ? save.error.fields : {};
  // Its own change may come back as an event before the answer does.
  const saving = save.isPending || save.isSuccess;
  const back = estimate ? `/estimates/${estimate.id}` : "/";

  useEffect(() => {
    if (save.error) form.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus();
  }, [save.error]);

  function submit(event: FormEvent) {
    event.preventDefault();
    if (gone) return;
    // Of a known estimate only what the user changed: the rest may be newer on the server.
    const names = estimate
      ? draft.touched
      : (Object.keys(LABELS) as (keyof Values)[]).filter((name) => name === "project" || draft.values[name]);
    if (names.length === 0) navigate(back);
    else save.mutate(inputOf(draft.values, names), { onSuccess: ({ id }) => navigate(`/estimates/${id}`) });
  }

  /** What every control gets. */
  function bind(name: keyof Values) {
    return {
      name,
      value: draft.values[name],
      onChange: (event: { target: { value: string } }) => draft.set(name, event.target.value),
    };
  }

  const statuses = new Set<Status>([...statusesFor(me), ...(estimate ? [estimate.status] : [])]);

  return (
    <form ref={form} className="card stack" onSubmit={submit} noValidate>
      {gone && (
        <p className="notice warning" role="alert">
          {gone} Сохранить её уже нельзя; скопируйте из формы то, что вам нужно.
        </p>
      )}
      {estimate && !gone && !saving && draft.changed.length > 0 && (
        <Conflict estimate={estimate} draft={draft} />
      )}
      {save.error && <FormError>{save.error.message}</FormError>}

      <div className="columns">
        <Field
          label={LABELS.number}
          error={errors.number}
          hint={estimate ? undefined : "Можно не заполнять: номер составится из даты и проекта."}
        >
          {(control) => <input {...control} {...bind("number")} autoComplete="off" />}
        </Field>
        <Field label={LABELS.amount} error={errors.amount}>
          {(control) => (
            <input
              {...control}
              {...bind("amount")}
              inputMode="decimal"
              autoComplete="off"
              placeholder="0,00"
            />
          )}
        </Field>
        <Field label={LABELS.project} error={errors.project}>
          {(control) => (
            <select {...control} {...bind("project")} disabled={Boolean(estimate) && !manager}>
              {!estimate && <option value="">Выберите проект</option>}
              {projects.map(({ id, name }) => (
                <option key={id} value={id}>
                  {name}
                </option>
              ))}
            </select>
          )}
        </Field>
        {manager && (
          <Field label={LABELS.foreman} error={errors.foreman}>
            {(control) => (
              <select {...control} {...bind("foreman")}>
                <option value="">Не назначен</option>
                {foremen.map(({ id, name }) => (
                  <option key={id} value={id}>
                    {name}
                  </option>
                ))}
              </select>
            )}
          </Field>
        )}
        <Field label={LABELS.status} error={errors.status}>
          {(control) => (
            <select {...control} {...bind("status")}>
              {[...statuses].map((status) => (
                <option key={status}>{status}</option>
              ))}
            </select>
          )}
        </Field>
      </div>
      <Field label={LABELS.comment} error={errors.comment}>
        {(control) => <textarea {...control} {...bind("comment")} rows={4} />}
      </Field>
      <div className="actions">
        <button type="submit" className="button primary" disabled={saving || Boolean(gone)}>
          {estimate ? "Сохранить" : "Создать смету"}
        </button>
        <Link className="button" to={back}>
          Отмена
        </Link>
      </div>
    </form>
  );
}

/** Says that somebody else changed what is in the form, and leaves it to the user what to do about it. */
function Conflict({ estimate, draft }: { estimate: Estimate; draft: Draft<Values> }) {
  const now: Record<keyof Values, string> = {
    number: estimate.number,
    project: estimate.project_name,
    foreman: estimate.foreman_name || "не назначен",
    status: estimate.status,
    amount: money(estimate.amount),
    comment: estimate.comment || "пусто",
  };
  return (
    <div className="notice warning" role="alert">
      <p>
        <strong>Пока вы редактировали, смету изменили.</strong> Введённое вами осталось на месте. Новые
        значения:
      </p>
      <ul>
        {draft.changed.map((name) => (
          <li key={name}>
            {LABELS[name]}: <b>{now[name]}</b>
          </li>
        ))}
      </ul>
      <div className="actions">
        <button type="button" className="button" onClick={draft.takeTheirs}>
          Взять новые значения
        </button>
        <button type="button" className="button" onClick={draft.keepMine}>
          Оставить введённое мной
        </button>
      </div>
    </div>
  );
}
