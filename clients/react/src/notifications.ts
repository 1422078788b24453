import { useCallback, useEffect, useSyncExternalStore } from "react";
import type { EventData, EventMeta } from "./events.js";
import { useLatest, useSSEBus } from "./react.js";

/** What a notification says; a click on it shows the page, and goes to `url` if there is one. */
export interface SSENotification {
  title: string;
  body?: string;
  url?: string;
  icon?: string;
}

/** For each event name (or `"estimate.*"`) what is said, or null if nothing is. */
export type NotificationMap = {
  [N in string]: (data: EventData<N>, meta: EventMeta) => SSENotification | null;
};

/** "unsupported": this browser has no notifications, or not on this page. */
export type SSEPermission = NotificationPermission | "unsupported";

export interface SSENotifications {
  permission: SSEPermission;
  /** Asks the user. Browsers want that to happen in the handler of a click. */
  request: () => Promise<SSEPermission>;
}

/**
 * Shows a notification of the system for these events while the tab is hidden, once the user allowed it. Several tabs
 * show one together: it is tagged with the event's id.
 */
export function useSSENotifications(map: NotificationMap): SSENotifications {
  const bus = useSSEBus();
  const latest = useLatest(map);
  const permission = useSyncExternalStore(subscribe, readPermission, () => "default" as const);
  const names = Object.keys(map).join(" ");
  useEffect(() => {
    const off = names.split(" ").map((name) =>
      bus.on(name, (data, meta) => {
        if (!document.hidden || readPermission() !== "granted") return;
        const notification = latest.current[name]?.(data, meta);
        if (notification) void show(notification, meta);
      }),
    );
    return () => {
      for (const remove of off) remove();
    };
  }, [bus, names, latest]);
  const request = useCallback(async () => {
    if (readPermission() !== "unsupported") await Notification.requestPermission();
    for (const listener of [...listeners]) listener();
    return readPermission();
  }, []);
  return { permission, request };
}

const listeners = new Set<() => void>();

/** The permission may also change in the browser's settings: that is seen when the user is back. */
function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  document.addEventListener("visibilitychange", listener);
  return () => {
    listeners.delete(listener);
    document.removeEventListener("visibilitychange", listener);
  };
}

function readPermission(): SSEPermission {
  return "Notification" in globalThis ? Notification.permission : "unsupported";
}

let logged = false;

async function show({ title, body, url, icon }: SSENotification, meta: EventMeta): Promise<void> {
  const options: NotificationOptions = { tag: meta.id ?? meta.event, data: { url } };
  if (body !== undefined) options.body = body;
  if (icon !== undefined) options.icon = icon;
  try {
    const notification = new Notification(title, options);
    notification.onclick = () => {
      window.focus();
      if (url) location.assign(url);
      notification.close();
    };
  } catch {
    // On Android only a service worker may show them; a click is for its notificationclick, which finds data.url.
    const registration = await navigator.serviceWorker?.getRegistration().catch(() => undefined);
    if (registration) await registration.showNotification(title, options);
    else if (!logged) {
      logged = true;
      console.warn("[SSE] this browser shows notifications only through a service worker, and there is none");
    }
  }
}
