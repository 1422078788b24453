// @vitest-environment node
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { renderToString } from "react-dom/server";
import { expect, test } from "vitest";
import { SSEConnection, useSSE, useSSENotifications, useSSEStatus } from "../../src/index.js";
import { useSSEQueries } from "../../src/query.js";

test("a server renders all of it, idle, and touches no window", () => {
  expect("window" in globalThis || "document" in globalThis).toBe(false);
  const Inside = () => {
    useSSEQueries({ "estimate.*": [["estimates"]] });
    const { permission } = useSSENotifications({ "estimate.created": () => ({ title: "New" }) });
    return <p>{`${useSSEStatus()} ${useSSE().connected} ${permission}`}</p>;
  };
  const html = renderToString(
    <QueryClientProvider client={new QueryClient()}>
      <SSEConnection user={7} token="T" indicator>
        <Inside />
      </SSEConnection>
    </QueryClientProvider>,
  );
  expect(html).toContain("<p>idle false default</p>");
  expect(html).toContain("Not connected");
});
