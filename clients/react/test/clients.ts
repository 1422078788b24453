import { EventBus } from "../src/bus.js";
import { SSEClient, type SSEClientOptions } from "../src/client.js";
import type { Tab } from "./world.js";

export type TestClient = SSEClient & { heard: string[]; statuses: string[] };

/** A client in this tab, started, that notes what its bus and its status say. */
export function client(tab: Tab, options: Partial<SSEClientOptions> = {}): TestClient {
  const bus = new EventBus();
  const { environment } = tab;
  const made = new SSEClient({ user: 7, token: "T", bus, environment, ...options }) as TestClient;
  made.heard = [];
  made.statuses = [];
  bus.on("*", (data, { event }) => {
    if (event !== "keepalive") made.heard.push(`${event} ${JSON.stringify(data)}`);
  });
  made.subscribe(() => {
    const { status } = made.getSnapshot();
    if (status !== made.statuses.at(-1)) made.statuses.push(status);
  });
  made.start();
  return made;
}

/** What was heard since the last time, without `connected`. */
export function news(client: TestClient): string[] {
  return client.heard.splice(0).filter((line) => !line.startsWith("connected"));
}

export const STALE = 'system.stale {"reason":"no_id"}';
export const MISSED = 'system.stale {"reason":"missed"}';
