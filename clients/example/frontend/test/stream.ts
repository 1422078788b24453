import { act } from "@testing-library/react";

/** An EventSource that the tests speak through. */
class ScriptedEventSource {
  onmessage: ((event: MessageEvent<string>) => void) | null = null;
  onerror: ((event: Event) => void) | null = null;
  readyState = 0;
  readonly url: string;

  constructor(url: string) {
    this.url = url;
    open.add(this);
    queueMicrotask(() => {
      if (streams.down) this.fail(0);
      else this.frame({ event: "connected", message: "" }, nextId());
    });
  }

  frame(body: object, id = "") {
    if (!open.has(this)) return;
    this.readyState = 1;
    const event = { data: JSON.stringify(body), lastEventId: id } as MessageEvent<string>;
    act(() => this.onmessage?.(event));
  }

  /** @param readyState 0: the connection broke; 2: the answer was no event stream */
  fail(readyState: number) {
    if (!open.has(this)) return;
    this.readyState = readyState;
    act(() => this.onerror?.(new Event("error")));
  }

  close() {
    this.readyState = 2;
    open.delete(this);
  }
}

const open = new Set<ScriptedEventSource>();
let last = 0;

function nextId(): string {
  last += 1;
  return `1795380400000-${last}`;
}

/** All streams that are open: the server's side of them. */
export const streams = {
  /** Nobody answers. */
  down: false,
  count: () => open.size,
  /** @param timestamp when it happened, in Unix seconds */
  send(event: string, data: object = {}, timestamp = Math.floor(Date.now() / 1000)) {
    const id = event.startsWith("auth.") ? "" : nextId();
    for (const one of [...open]) one.frame({ event, data, timestamp }, id);
  },
  break(readyState = 0) {
    for (const one of [...open]) one.fail(readyState);
  },
};

export const FakeEventSource = ScriptedEventSource;
