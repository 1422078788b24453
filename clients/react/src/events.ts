/**
 * Event names and the types of their data. A site adds its own:
 *
 * ```ts
 * declare module "sse-react" {
 *   interface SSEEvents {
 *     "estimate.created": { estimate_id: number; status: string };
 *   }
 * }
 * ```
 *
 * The data of a name that is not listed is `any`.
 */
export interface SSEEvents {
  /** The stream begins. */
  connected: { message?: string };
  /** Nothing happened for 30 s, and the stream is alive. */
  keepalive: unknown;
  /** An open stream was lost. Said once, however many attempts fail afterwards. */
  "system.connectionLost": { reason: LostReason };
  /** It is back. `resumed`: what happened in `downMs` milliseconds follows, event by event. */
  "system.connectionRestored": { resumed: boolean; downMs: number };
  /** The server cannot say what was missed: refetch what you show. `lost`: Django could not send it to the server. */
  "system.resync": { reason: "too_old" | "unknown" | "newer" | "lost" };
  /** This page may have missed something: refetch what you show. */
  "system.stale": { reason: "no_id" | "missed" };
  /** The session was ended by the server, and there is no other token. */
  "auth.revoked": Record<string, never>;
  /** The server does not take the token, and there is no other. */
  "auth.denied": Record<string, never>;
}

/** Why an open stream was lost. `token`: the token function failed when a new one was needed. */
export type LostReason = "error" | "silence" | "offline" | "token" | "denied" | "revoked";

/** A name of `SSEEvents`, or any other. `"*"` is every event, `"estimate.*"` all that begin with `estimate.` */
export type EventName = keyof SSEEvents | (string & {});

/** The data of the event `N`. */
// biome-ignore lint/suspicious/noExplicitAny: a name that nobody has declared has data of any kind.
export type EventData<N extends string> = N extends keyof SSEEvents ? SSEEvents[N] : any;

/** What comes with an event beside its data. */
export interface EventMeta {
  /** Its name; a handler of `"*"` needs it. */
  event: string;
  /** `<ms>-<n>`. Events of this page itself and the protocol's own have none. */
  id?: string;
  /** Unix seconds, as the server says. */
  timestamp?: number;
}

/** Called with an event's data, in the order of arrival. */
export type EventHandler<N extends string = string> = (data: EventData<N>, meta: EventMeta) => void;
