"use client";

import {
  createContext,
  type ReactElement,
  type ReactNode,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useSyncExternalStore,
} from "react";
import { type EventBus, eventBus } from "./bus.js";
import { defined, IDLE, type SSEClient, type SSEClientOptions, type SSESnapshot, type SSEStatus } from "./client.js";
import type { Token } from "./connection.js";
import type { EventHandler, EventName } from "./events.js";
import { type IndicatorLabels, SSEIndicator } from "./indicator.js";
import { sharedClient } from "./shared.js";

/** `SSEClientOptions`, but there may be nobody logged in: as long as user or token is missing, nothing is connected. */
export interface SSEOptions extends Omit<SSEClientOptions, "user" | "token"> {
  user: string | number | null | undefined;
  /** Another string is connected with at once; a function may be a new one on each render. */
  token: Token | null | undefined;
}

export interface SSEConnectionProps extends SSEOptions {
  /** Show the state of the connection in a corner: always, never, or in development ("dev"). */
  indicator?: boolean | "dev";
  /** The indicator's words, where they are to be others. */
  labels?: Partial<IndicatorLabels>;
  children?: ReactNode;
}

export interface SSE extends SSESnapshot {
  /** Events can come: the status is "open". */
  connected: boolean;
  bus: EventBus;
  /** Tries at once, and counts the attempts anew. */
  reconnect: () => void;
}

interface ContextValue {
  client: SSEClient | null;
  bus: EventBus;
}

const Context = createContext<ContextValue | null>(null);

/** Connects while somebody is logged in, and lets everything inside hear the events. */
export function SSEConnection(props: SSEConnectionProps): ReactElement {
  const { indicator = "dev", labels, children, ...options } = props;
  const client = useClient(options);
  const bus = options.bus ?? eventBus;
  const value = useMemo(() => ({ client, bus }), [client, bus]);
  return (
    <Context.Provider value={value}>
      {children}
      {(indicator === true || (indicator === "dev" && isDevelopment())) && <Indicator labels={labels} />}
    </Context.Provider>
  );
}

/**
 * The state of the connection: that of the `<SSEConnection>` above, or, with options, of one that all components with
 * the same options have together. Renders again on every event (`lastEventId`); `useSSEStatus` does so on a change of
 * the status only.
 *
 * @throws Error without options and without an `<SSEConnection>` above
 */
export function useSSE(options?: SSEOptions): SSE {
  const context = useContext(Context);
  const own = useClient(options ?? null);
  if (!options && !context) throw new Error("useSSE: there is no <SSEConnection> above, and no options are given");
  const client = options ? own : (context?.client ?? null);
  const bus = (options ? options.bus : context?.bus) ?? eventBus;
  const snapshot = useSnapshot(client, whole);
  return useMemo(
    () => ({ ...snapshot, connected: snapshot.status === "open", bus, reconnect: () => client?.reconnect() }),
    [snapshot, bus, client],
  );
}

/** The status alone, of the `<SSEConnection>` above; "idle" if there is none. */
export function useSSEStatus(): SSEStatus {
  return useSnapshot(useContext(Context)?.client ?? null, statusOf);
}

/**
 * Calls `handler`, always the one of the last render, for each such event: of this bus, else of the
 * `<SSEConnection>` above, else of `eventBus`. Names may be `"*"` or `"estimate.*"`, and be many.
 */
export function useSSEEvent<N extends EventName>(
  names: N | readonly N[],
  handler: EventHandler<N>,
  own?: EventBus,
): void {
  const above = useSSEBus();
  const bus = own ?? above;
  const latest = useLatest(handler);
  const joined = typeof names === "string" ? names : names.join(" ");
  useEffect(() => {
    const off = [...new Set(joined.split(" "))]
      .filter((name) => name !== "")
      .map((name) => bus.on(name, (data, meta) => latest.current(data, meta)));
    return () => {
      for (const remove of off) remove();
    };
  }, [bus, joined, latest]);
}

/** The bus of the `<SSEConnection>` above, else `eventBus`. */
export function useSSEBus(): EventBus {
  return useContext(Context)?.bus ?? eventBus;
}

/** The client of the `<SSEConnection>` above; null if there is none, or nobody is logged in. */
export function useSSEClient(): SSEClient | null {
  return useContext(Context)?.client ?? null;
}

function Indicator({ labels }: { labels: Partial<IndicatorLabels> | undefined }): ReactElement {
  const { status, attempt, reconnect } = useSSE();
  return <SSEIndicator status={status} attempt={attempt} onReconnect={reconnect} {...(labels && { labels })} />;
}

/** The client of these options, for as long as they stay the same; null while nobody is logged in. */
function useClient(options: SSEOptions | null): SSEClient | null {
  const { user = null, token = null, url, bus = eventBus, storage, share, environment, debug } = options ?? {};
  const { attempts, delayMs, jitterMs, stableMs, silenceMs, slowMs } = options ?? {};
  const loggedIn = user !== null && user !== "" && token !== null && token !== "";
  const latest = useLatest(token);
  const text = typeof token === "function" ? null : token;
  const shared = useMemo(() => {
    if (!loggedIn || user === null) return null;
    const given = { url, storage, share, environment, debug };
    const times = { attempts, delayMs, jitterMs, stableMs, silenceMs, slowMs };
    return sharedClient({ user, token: "", bus, ...defined({ ...given, ...times }) });
  }, [
    loggedIn,
    user,
    url,
    bus,
    storage,
    share,
    environment,
    debug,
    attempts,
    delayMs,
    jitterMs,
    stableMs,
    silenceMs,
    slowMs,
  ]);
  useEffect(() => {
    shared?.use(
      latest,
      text ??
        ((reason) => {
          const token = latest.current;
          return typeof token === "function" ? token(reason) : token;
        }),
    );
  }, [shared, text, latest]);
  useEffect(() => () => shared?.leave(latest), [shared, latest]);
  return shared?.client ?? null;
}

function useSnapshot<T>(client: SSEClient | null, select: (snapshot: SSESnapshot) => T): T {
  const get = () => select(client?.getSnapshot() ?? IDLE);
  return useSyncExternalStore(client?.subscribe ?? nothing, get, () => select(IDLE));
}

const whole = (snapshot: SSESnapshot) => snapshot;
const statusOf = (snapshot: SSESnapshot) => snapshot.status;
const nothing = () => () => {};

/** The value of the last render that was committed, for what is called later. */
export function useLatest<T>(value: T): { readonly current: T } {
  const latest = useRef(value);
  useEffect(() => {
    latest.current = value;
  });
  return latest;
}

declare const process: { env: { NODE_ENV?: string } };

/** Bundlers replace the whole expression; where nobody does, there is no `process`. */
function isDevelopment(): boolean {
  try {
    return process.env.NODE_ENV !== "production";
  } catch {
    return false;
  }
}
