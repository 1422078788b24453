import type { EventBus } from "./bus.js";
import { SSEClient, type SSEClientOptions } from "./client.js";
import type { Token } from "./connection.js";

/** A client that all components with the same options use: the first of them starts it, the last one stops it. */
export class SharedClient {
  readonly client: SSEClient;
  /** Of each component that is mounted; the last one's is used. */
  private readonly tokens = new Map<object, Token>();

  constructor(readonly options: SSEClientOptions & { bus: EventBus }) {
    this.client = new SSEClient(options);
  }

  /** This component is there, or has another token now. */
  use(component: object, token: Token): void {
    register(this);
    this.tokens.delete(component);
    this.tokens.set(component, token);
    this.client.setToken(token);
    this.client.start();
  }

  leave(component: object): void {
    this.tokens.delete(component);
    const token = [...this.tokens.values()].at(-1);
    if (token !== undefined) {
      this.client.setToken(token);
    } else {
      this.client.stop();
      unregister(this);
    }
  }
}

const clients = new WeakMap<EventBus, SharedClient[]>();

/** The client of the components with these options, or a new one. */
export function sharedClient(options: SSEClientOptions & { bus: EventBus }): SharedClient {
  const known = clients.get(options.bus)?.find((shared) => isSame(shared.options, options));
  if (known) return known;
  const made = new SharedClient(options);
  if (typeof document !== "undefined") register(made); // a server would keep it for ever
  return made;
}

function register(shared: SharedClient): void {
  const all = clients.get(shared.options.bus) ?? [];
  if (!all.includes(shared)) clients.set(shared.options.bus, [...all, shared]);
}

function unregister(shared: SharedClient): void {
  const all = clients.get(shared.options.bus) ?? [];
  clients.set(
    shared.options.bus,
    all.filter((other) => other !== shared),
  );
}

function isSame(a: SSEClientOptions, b: SSEClientOptions): boolean {
  const names = Object.keys({ ...a, ...b }) as (keyof SSEClientOptions)[];
  return names.every((name) => a[name] === b[name]);
}
