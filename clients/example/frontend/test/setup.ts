import "@testing-library/jest-dom/vitest";
import { act, cleanup, configure } from "@testing-library/react";
import { afterAll, afterEach, beforeAll, beforeEach, expect, vi } from "vitest";
import { session } from "../src/session";
import { resetSite, server } from "./server";
import { FakeEventSource, streams } from "./stream";

// How long a test may wait for what it expects, on a busy machine too.
configure({ asyncUtilTimeout: 10_000 });

beforeAll(() => {
  vi.stubGlobal("EventSource", FakeEventSource);
  server.listen({ onUnhandledRequest: "error" });
});

beforeEach(() => {
  vi.spyOn(console, "error");
  vi.spyOn(console, "warn");
  localStorage.clear();
  resetSite();
  streams.down = false;
});

afterEach(() => {
  const token = session.get()?.token;
  if (token) act(() => session.end(token));
  cleanup();
  expect(console.error).not.toHaveBeenCalled();
  expect(console.warn).not.toHaveBeenCalled();
  server.resetHandlers();
});

afterAll(() => server.close());
