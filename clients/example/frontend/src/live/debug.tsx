import { useEffect } from "react";
import { useSSEBus, useSSEClient } from "sse-react";

/** In development, and where localStorage has "sse-debug". */
export const DEBUG = import.meta.env.DEV || wanted();

function wanted(): boolean {
  try {
    return localStorage.getItem("sse-debug") !== null;
  } catch {
    return false;
  }
}

/** Logs every event, and puts SSEDemo and SSETestUtils into the browser's console. */
export function DebugConsole() {
  const bus = useSSEBus();
  const client = useSSEClient();

  useEffect(() => {
    let remove: (() => void) | undefined;
    let gone = false;
    bus.debug = true;
    // Loaded only where it is wanted.
    void import("sse-react/console").then(({ installConsole }) => {
      if (!gone) remove = installConsole(bus, client);
    });
    return () => {
      gone = true;
      remove?.();
    };
  }, [bus, client]);
  return null;
}
