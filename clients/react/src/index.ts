export { EventBus, eventBus } from "./bus.js";
export { SSEClient, type SSEClientOptions, type SSESnapshot, type SSEStatus } from "./client.js";
export type { Token, TokenReason } from "./connection.js";
export { browserEnvironment, type Environment } from "./environment.js";
// All of it, so that a site's `declare module "sse-react"` can add to SSEEvents.
export * from "./events.js";
export { type IndicatorLabels, SSEIndicator, type SSEIndicatorProps } from "./indicator.js";
export {
  type NotificationMap,
  type SSENotification,
  type SSENotifications,
  type SSENotificationsOptions,
  type SSEPermission,
  useSSENotifications,
} from "./notifications.js";
export {
  type SSE,
  SSEConnection,
  type SSEConnectionProps,
  type SSEOptions,
  useSSE,
  useSSEBus,
  useSSEClient,
  useSSEEvent,
  useSSEStatus,
} from "./react.js";
