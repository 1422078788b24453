import { quoted } from "../format";
import { isManager } from "../permissions";
import type { EstimateEvent, ProjectEvent, User } from "../types";

const MEN = new Set(["илья", "никита", "лука", "фома", "кузьма", "савва", "данила", "фока"]);

/** Guesses the gender of a Russian name, "Анна Соколова": the past tense of a verb needs it. */
export function isFeminine(name: string): boolean {
  const [first = "", ...others] = name.toLowerCase().split(/\s+/);
  if (others.some((word) => /(ова|ева|ёва|ина|ына|ская|цкая|ая)$/.test(word))) return true;
  return (
    /[ая]$/.test(first) && !MEN.has(first) && !others.some((word) => /(ов|ев|ёв|ин|ын|[иоы]й)$/.test(word))
  );
}

/** "Иван Петров создал", "Анна Соколова создала"; "" if it is not known who. */
function did(name: string | null | undefined, masculine: string): string {
  return name ? `${name} ${masculine}${isFeminine(name) ? "а" : ""}` : "";
}

/** What the user is told of an event about an estimate, in a sentence without its full stop. */
export function estimateSentence(event: string, data: EstimateEvent, me: User): string {
  const estimate = quoted(data.estimate_number);
  switch (event) {
    case "estimate.created": {
      const who = did(data.actor_name ?? data.creator_name, "создал");
      return who ? `${who} смету ${estimate}` : `Новая смета ${estimate}`;
    }
    case "estimate.deleted": {
      const who = did(data.actor_name, "удалил");
      return who ? `${who} смету ${estimate}` : `Смета ${estimate} удалена`;
    }
    default: {
      // The one who had it is told of its new foreman.
      if (!isManager(me) && data.foreman_id !== me.id) return `Смета ${estimate} больше не назначена вам`;
      const who = did(data.actor_name, "изменил");
      return who ? `${who} смету ${estimate}` : `Смета ${estimate} изменена`;
    }
  }
}

export function projectSentence(event: string, data: ProjectEvent): string {
  const project = quoted(data.project_name);
  const created = event === "project.created";
  const who = did(data.actor_name, created ? "создал" : "изменил");
  if (who) return `${who} проект ${project}`;
  return created ? `Новый проект ${project}` : `Проект ${project} изменён`;
}

/** Did this user do it, on whatever device? Unknown counts as no. */
export function isMine(event: string, data: EstimateEvent | ProjectEvent, me: User): boolean {
  if (typeof data.actor_id === "number") return data.actor_id === me.id;
  return event === "estimate.created" && "creator_id" in data && data.creator_id === me.id;
}
