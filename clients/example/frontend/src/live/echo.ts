// The server tells everybody what has changed, also the browser that changed it. These events are told apart
// by what was asked for: one for each request, which may come before the answer or soon after it.

interface Expected {
  event: string;
  /** null: of a creation, whose answer says it. */
  id: number | null;
}

const KEPT_MS = 10_000;
let expected: Expected[] = [];

/** The other tabs of the browser are the same user's. */
const tabs = openChannel();
tabs?.addEventListener("message", ({ data }: MessageEvent<Expected>) => {
  expected.push(data);
  setTimeout(forget, KEPT_MS, data);
});

/** None where there are none, or where the user has forbidden the site to store anything: Firefox throws then. */
function openChannel(): BroadcastChannel | null {
  try {
    return new BroadcastChannel("smeta-echo");
  } catch {
    return null;
  }
}

function forget(entry: Expected) {
  expected = expected.filter((other) => other !== entry);
}

/** Makes a request. The event about it, if there is one, is `isEcho`, in all tabs. */
export async function expectEcho<T>(event: string, id: number | null, request: () => Promise<T>): Promise<T> {
  const entry: Expected = { event, id };
  expected.push(entry);
  tabs?.postMessage(entry);
  try {
    const answer = await request();
    setTimeout(forget, KEPT_MS, entry);
    return answer;
  } catch (error) {
    forget(entry);
    throw error;
  }
}

/** Is this event the echo of what this browser did? Each request has one. */
export function isEcho(event: string, id: number): boolean {
  const entry = expected.find((one) => one.event === event && (one.id === null || one.id === id));
  if (entry) forget(entry);
  return entry !== undefined;
}
