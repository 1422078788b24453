import { useState } from "react";
import { useSSENotifications } from "sse-react";
import { estimateSentence, isMine } from "../live/words";
import { useMe } from "../me";
import { isManager } from "../permissions";
import type { EstimateEvent } from "../types";
import { Bell } from "../ui/icons";

const KEY = "smeta-notifications";

function stored(): boolean {
  try {
    return localStorage.getItem(KEY) === "on";
  } catch {
    return false;
  }
}

function store(on: boolean) {
  try {
    localStorage.setItem(KEY, on ? "on" : "off");
  } catch {
    // Then the choice lasts as long as the page.
  }
}

/** Tells of what matters to the user while the tab is hidden, once he has asked for it. */
export function Notifications() {
  const me = useMe();
  const [wanted, setWanted] = useState(stored);
  const event = isManager(me) ? "estimate.created" : "estimate.updated";

  const { permission, request } = useSSENotifications({
    [event]: (data: EstimateEvent) => {
      if (!wanted || isMine(event, data, me)) return null;
      return {
        title: estimateSentence(event, data, me),
        body: `${data.project_name} · ${data.status}`,
        url: `/estimates/${data.estimate_id}`,
      };
    },
  });

  const on = wanted && permission === "granted";
  async function toggle() {
    const next = !on && (permission === "granted" || (await request()) === "granted");
    store(next);
    setWanted(next);
  }

  if (permission === "unsupported") return null;
  return (
    <button
      type="button"
      className={`button quiet-button ${on ? "on" : ""}`}
      disabled={permission === "denied"}
      title={permission === "denied" ? "Запрещены в настройках браузера для этого сайта" : undefined}
      onClick={() => void toggle()}
    >
      <Bell />
      <span className="button-text">{label(permission === "denied", on)}</span>
    </button>
  );
}

function label(denied: boolean, on: boolean): string {
  if (denied) return "Уведомления запрещены";
  return on ? "Выключить уведомления" : "Включить уведомления";
}
