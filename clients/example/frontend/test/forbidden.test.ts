import { expect, test, vi } from "vitest";

test("the site works where the browser forbids it to store anything, and to speak to its other tabs", async () => {
  // As Firefox does where cookies are blocked.
  vi.stubGlobal(
    "BroadcastChannel",
    class {
      constructor() {
        throw new DOMException("The operation is insecure.", "SecurityError");
      }
    },
  );
  vi.resetModules();
  const { expectEcho, isEcho } = await import("../src/live/echo");
  await expectEcho("estimate.updated", 7, async () => undefined);
  expect(isEcho("estimate.updated", 7)).toBe(true);
  vi.unstubAllGlobals();
});
