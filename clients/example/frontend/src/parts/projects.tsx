import { useQuery } from "@tanstack/react-query";
import { useId, useState } from "react";
import { Link, useSearchParams } from "react-router";
import { estimatesCount } from "../format";
import { useFreshness } from "../live/fresh";
import { useMe } from "../me";
import { isManager } from "../permissions";
import { queries } from "../queries";
import type { Project } from "../types";
import { Chevron, Pencil, Plus } from "../ui/icons";
import { LoadError, Loading } from "../ui/page";
import { ProjectDialog } from "./project-dialog";

/** The projects, each a filter of the list beside them. On a narrow page they are folded away. */
export function Projects({ selected }: { selected: number | undefined }) {
  const me = useMe();
  const projects = useQuery(queries.projects);
  const [open, setOpen] = useState(false);
  const [edited, setEdited] = useState<Project | "new" | null>(null);
  const id = useId();
  const current = projects.data?.find((project) => project.id === selected);

  return (
    <nav className={`projects ${open ? "open" : ""}`} aria-labelledby={`${id}-title`}>
      <div className="projects-head">
        <h2 id={`${id}-title`}>Проекты</h2>
        <button
          type="button"
          className="button fold"
          aria-expanded={open}
          aria-controls={`${id}-list`}
          onClick={() => setOpen(!open)}
        >
          <span>{current?.name ?? "Все проекты"}</span>
          <Chevron />
        </button>
        {isManager(me) && (
          <button type="button" className="button small" onClick={() => setEdited("new")}>
            <Plus />
            Новый проект
          </button>
        )}
      </div>
      {projects.isError && <LoadError error={projects.error} retry={() => void projects.refetch()} />}
      {projects.isPending && <Loading />}
      <ul id={`${id}-list`}>
        <li>
          <FilterLink project={undefined} selected={selected === undefined} onPick={() => setOpen(false)}>
            <span className="project-name">Все проекты</span>
          </FilterLink>
        </li>
        {projects.data?.map((project) => (
          <ProjectRow
            key={project.id}
            project={project}
            selected={project.id === selected}
            onPick={() => setOpen(false)}
            onEdit={isManager(me) ? () => setEdited(project) : undefined}
          />
        ))}
      </ul>
      {edited && (
        <ProjectDialog project={edited === "new" ? undefined : edited} onClose={() => setEdited(null)} />
      )}
    </nav>
  );
}

interface RowProps {
  project: Project;
  selected: boolean;
  onPick: () => void;
  onEdit: (() => void) | undefined;
}

function ProjectRow({ project, selected, onPick, onEdit }: RowProps) {
  const freshness = useFreshness(`project:${project.id}`);
  return (
    <li className={freshness && "fresh"}>
      <FilterLink project={project.id} selected={selected} onPick={onPick}>
        <span className="project-name">
          {project.name}
          {freshness && <FreshChip created={freshness === "created"} masculine />}
        </span>
        <span className="project-about">
          {[project.address, estimatesCount(project.estimates_count)].filter(Boolean).join(" · ")}
        </span>
      </FilterLink>
      {onEdit && (
        <button
          type="button"
          className="icon-button"
          aria-label={`Изменить проект «${project.name}»`}
          onClick={onEdit}
        >
          <Pencil />
        </button>
      )}
    </li>
  );
}

interface LinkProps {
  project: number | undefined;
  selected: boolean;
  onPick: () => void;
  children: React.ReactNode;
}

/** Keeps the other filter as it is. */
function FilterLink({ project, selected, onPick, children }: LinkProps) {
  const [params] = useSearchParams();
  const next = new URLSearchParams(params);
  if (project === undefined) next.delete("project");
  else next.set("project", String(project));
  return (
    <Link
      to={{ pathname: "/", search: `${next}` }}
      aria-current={selected ? "true" : undefined}
      onClick={onPick}
    >
      {children}
    </Link>
  );
}

/** Says in a word what the highlight says in colour. */
export function FreshChip({ created, masculine = false }: { created: boolean; masculine?: boolean }) {
  const [justMade, changed] = masculine ? ["Новый", "Изменён"] : ["Новая", "Изменена"];
  return <span className="chip">{created ? justMade : changed}</span>;
}
