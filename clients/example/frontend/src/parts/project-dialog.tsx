import type { FormEvent } from "react";
import { ApiError } from "../api";
import { useSaveProject } from "../queries";
import type { Project } from "../types";
import { Dialog, FormError } from "../ui/dialog";
import { Field } from "../ui/field";

/** Creates a project, or edits the one that is given. */
export function ProjectDialog({ project, onClose }: { project?: Project | undefined; onClose: () => void }) {
  const save = useSaveProject(project?.id);
  const fields = save.error instanceof ApiError ? save.error.fields : {};

  function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const data = new FormData(event.currentTarget);
    const input = { name: String(data.get("name")), address: String(data.get("address")) };
    save.mutate(input, { onSuccess: onClose });
  }

  return (
    <Dialog title={project ? "Изменить проект" : "Новый проект"} onClose={onClose}>
      <form className="stack" onSubmit={submit} noValidate>
        {save.error && <FormError>{save.error.message}</FormError>}
        <Field label="Название" error={fields.name}>
          {(control) => <input {...control} name="name" defaultValue={project?.name} autoComplete="off" />}
        </Field>
        <Field label="Адрес" error={fields.address}>
          {(control) => (
            <input {...control} name="address" defaultValue={project?.address} autoComplete="off" />
          )}
        </Field>
        <div className="actions">
          <button type="submit" className="button primary" disabled={save.isPending}>
            {project ? "Сохранить" : "Создать проект"}
          </button>
          <button type="button" className="button" onClick={onClose}>
            Отмена
          </button>
        </div>
      </form>
    </Dialog>
  );
}
