"use client";

import type { CSSProperties, ReactElement } from "react";
import type { SSEStatus } from "./client.js";

/** What the indicator says in each state, and on its button. */
export interface IndicatorLabels extends Record<SSEStatus, string> {
  reconnect: string;
}

const LABELS: IndicatorLabels = {
  idle: "Not connected",
  connecting: "Connecting…",
  open: "Live",
  waiting: "Connection lost, trying again…",
  lost: "Connection lost",
  denied: "Access denied",
  revoked: "Session ended",
  reconnect: "Reconnect",
};

export interface SSEIndicatorProps {
  status: SSEStatus;
  /** Shown behind the label while it is being tried again. */
  attempt?: number;
  labels?: Partial<IndicatorLabels>;
  /** Called by the button that is there when the connection is lost. */
  onReconnect?: () => void;
}

/** The state of the connection, in a corner of the page: in words, and in a colour. */
export function SSEIndicator({ status, attempt = 0, labels, onReconnect }: SSEIndicatorProps): ReactElement {
  const text = { ...LABELS, ...labels };
  const trying = attempt > 0 && (status === "waiting" || status === "connecting");
  return (
    <div style={BOX}>
      <span style={{ ...DOT, background: COLOURS[status] }} aria-hidden="true" />
      <span role="status">
        {text[status]}
        {trying && ` (${attempt})`}
      </span>
      {status === "lost" && onReconnect && (
        <button type="button" style={BUTTON} onClick={onReconnect}>
          {text.reconnect}
        </button>
      )}
    </div>
  );
}

const COLOURS: Record<SSEStatus, string> = {
  idle: "#9ca3af",
  connecting: "#fbbf24",
  open: "#34d399",
  waiting: "#fbbf24",
  lost: "#f87171",
  denied: "#f87171",
  revoked: "#f87171",
};

const BOX: CSSProperties = {
  position: "fixed",
  right: 12,
  bottom: 12,
  zIndex: 2147483000,
  display: "flex",
  alignItems: "center",
  gap: 8,
  maxWidth: "calc(100vw - 24px)",
  boxSizing: "border-box",
  padding: "6px 12px",
  borderRadius: 16,
  border: "1px solid #4b5563",
  background: "#1f2937",
  color: "#f9fafb",
  font: "13px/1.4 system-ui, sans-serif",
};

const DOT: CSSProperties = { width: 10, height: 10, borderRadius: "50%", flex: "none" };

const BUTTON: CSSProperties = {
  padding: "2px 10px",
  borderRadius: 10,
  border: "1px solid #f9fafb",
  background: "transparent",
  color: "inherit",
  font: "inherit",
  cursor: "pointer",
};
