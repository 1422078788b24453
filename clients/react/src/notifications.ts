"use client";

import { useCallback, useEffect, useSyncExternalStore } from "react";
import type { EventData, EventMeta, SSEEvents } from "./events.js";
import { useLatest, useSSEBus } from "./react.js";

/** What a notification says; a click on it shows the page, and goes to `url` if there is one. */
export interface SSENotification {
  title: string;
  body?: string;
  url?: string;
  icon?: string;
}

type Says<N extends string> = (data: EventData<N>, meta: EventMeta) => SSENotification | null;

/** For each event name (or `"estimate.*"`) what is said, or null if nothing is. */
export type NotificationMap = { readonly [N in keyof SSEEvents]?: Says<N> } & { readonly [name: string]: Says<string> };

export interface SSENotificationsOptions {
  /** How it is said that there were more than three in ten seconds (`"5 more notifications"`). */
  more?: (n: number) => string;
  /** Goes to the url of the notification that was clicked: a router's way (`location.assign`). */
  onClick?: (url: string) => void;
}

/** "unsupported": this browser has no notifications, or not on this page. */
export type SSEPermission = NotificationPermission | "unsupported";

export interface SSENotifications {
  permission: SSEPermission;
  /** Asks the user. Browsers want that to happen in the handler of a click. */
  request: () => Promise<SSEPermission>;
}

/** What is older is seen when the page is looked at: after a night the replay is no news. */
const OLD_S = 120;
const BURST_MS = 10_000;
const BURST = 3;

/**
 * Shows a notification of the system for these events while no tab of the site is shown, once the user allowed it.
 * Several tabs show one together: it is tagged with the event's id. Of a burst three are shown, the others counted;
 * what is older than two minutes is not shown.
 */
export function useSSENotifications(map: NotificationMap, options: SSENotificationsOptions = {}): SSENotifications {
  const bus = useSSEBus();
  const latest = useLatest({ map, options });
  const permission = useSyncExternalStore(subscribe, readPermission, () => "default" as const);
  const names = Object.keys(map).join(" ");
  useEffect(holdWhileShown, []);
  useEffect(() => {
    const notify = async (notification: SSENotification, meta: EventMeta) => {
      if (!wanted() || (navigator.locks && (await isShownElsewhere(navigator.locks)))) return;
      await show(notification, meta, latest.current.options.onClick);
    };
    const burst = new Burst((n) => {
      const { more = (n: number) => `${n} more notification${n === 1 ? "" : "s"}` } = latest.current.options;
      void notify({ title: more(n) }, { event: "sse-react:more" });
    });
    const off = names.split(" ").map((name) =>
      bus.on(name, (data, meta) => {
        if (!wanted() || isOld(meta)) return;
        const notification = latest.current.map[name]?.(data, meta);
        if (notification && burst.admits()) void notify(notification, meta);
      }),
    );
    return () => {
      for (const remove of off) remove();
      burst.end();
    };
  }, [bus, names, latest]);
  const request = useCallback(async () => {
    if (readPermission() !== "unsupported") await Notification.requestPermission();
    for (const listener of [...listeners]) listener();
    return readPermission();
  }, []);
  return { permission, request };
}

function wanted(): boolean {
  return document.hidden && readPermission() === "granted";
}

function isOld({ timestamp }: EventMeta): boolean {
  return timestamp !== undefined && Date.now() / 1000 - timestamp > OLD_S;
}

/** Lets three pass, and says ten seconds after the first how many more there were. */
class Burst {
  private count = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly more: (n: number) => void) {}

  admits(): boolean {
    this.timer ??= setTimeout(() => {
      const more = this.count - BURST;
      this.end();
      if (more > 0) this.more(more);
    }, BURST_MS);
    return ++this.count <= BURST;
  }

  end(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.count = 0;
  }
}

/** The lock that each tab of the site shares while it is shown; the hidden ones see whether somebody has it. */
const SHOWN = "sse-react:shown";

function holdWhileShown(): () => void {
  let release: (() => void) | null = null;
  const letGo = () => {
    release?.();
    release = null;
  };
  const update = () => {
    if (document.hidden) return letGo();
    if (release) return;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    (async () => navigator.locks?.request(SHOWN, { mode: "shared" }, () => held))().catch(() => {});
  };
  update();
  document.addEventListener("visibilitychange", update);
  window.addEventListener("pageshow", update);
  window.addEventListener("pagehide", letGo); // a page with a lock is not put into the back/forward cache
  return () => {
    letGo();
    document.removeEventListener("visibilitychange", update);
    window.removeEventListener("pageshow", update);
    window.removeEventListener("pagehide", letGo);
  };
}

/** False, too, where the browser refuses to say. */
async function isShownElsewhere(locks: LockManager): Promise<boolean> {
  try {
    const { held = [] } = await locks.query();
    return held.some(({ name }) => name === SHOWN);
  } catch {
    return false;
  }
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

const goTo = (url: string) => location.assign(url);

async function show(
  { title, body, url, icon }: SSENotification,
  meta: EventMeta,
  onClick: (url: string) => void = goTo,
): Promise<void> {
  const options: NotificationOptions = { tag: meta.id ?? meta.event, data: { url } };
  if (body !== undefined) options.body = body;
  if (icon !== undefined) options.icon = icon;
  try {
    const notification = new Notification(title, options);
    notification.onclick = () => {
      window.focus();
      if (url) onClick(url);
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
