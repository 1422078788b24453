import { useState } from "react";
import { useNavigate } from "react-router";
import { type EventMeta, useSSENotifications } from "sse-react";
import { count } from "../format";
import { estimateSentence, isMine } from "../live/words";
import { useMe } from "../me";
import { isManager } from "../permissions";
import type { EstimateEvent, User } from "../types";
import { Bell } from "../ui/icons";

/** Who shares a browser does not share this choice. */
const keyOf = (me: User) => `smeta-notifications-${me.id}`;

function stored(me: User): boolean {
  try {
    return localStorage.getItem(keyOf(me)) === "on";
  } catch {
    return false;
  }
}

function store(me: User, on: boolean) {
  try {
    localStorage.setItem(keyOf(me), on ? "on" : "off");
  } catch {
    // Then the choice lasts as long as the page.
  }
}

/** Tells of what matters to the user while the tab is hidden, once he has asked for it. */
export function Notifications() {
  const me = useMe();
  const navigate = useNavigate();
  const [wanted, setWanted] = useState(() => stored(me));

  function notice(data: EstimateEvent, { event }: EventMeta) {
    if (!wanted || isMine(event, data, me)) return null;
    return {
      title: estimateSentence(event, data, me),
      body: `${data.project_name} · ${data.status}`,
      url: `/estimates/${data.estimate_id}`,
    };
  }
  // A manager hears of all estimates, and every change of each would be too much.
  const { permission, request } = useSSENotifications(
    isManager(me)
      ? { "estimate.created": notice }
      : { "estimate.created": notice, "estimate.updated": notice },
    {
      more: (n) => `И ещё ${count(n, "уведомление", "уведомления", "уведомлений")}`,
      onClick: (url) => void navigate(url),
    },
  );

  const on = wanted && permission === "granted";
  async function toggle() {
    const next = !on && (permission === "granted" || (await request()) === "granted");
    store(me, next);
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
