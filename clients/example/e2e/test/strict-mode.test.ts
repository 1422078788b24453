import { rmSync } from "node:fs";
import { expect } from "vitest";
import { buildForDevelopment, OwnSite } from "../support/site.ts";
import { test as base, row } from "../support/test.ts";

/** A site with the page as developers have it: React's StrictMode mounts everything twice there. */
const test = base.extend("site", { scope: "file" }, async ({}, { onCleanup }) => {
  const dist = await buildForDevelopment();
  const site = await OwnSite.start(dist);
  onCleanup(async () => {
    await site.stop();
    rmSync(dist, { recursive: true });
  });
  return site;
});

test("in development, under StrictMode, a page opens one stream", async ({ open, hire, visit, site }) => {
  const [manager, foreman] = [hire("manager"), hire("foreman")];
  const context = await open();
  const asked: string[] = [];
  context.on("request", (request) => asked.push(request.url()));
  const page = await visit(manager, context);
  const { number } = await site.estimate(foreman);
  await row(page, number).filter({ hasText: "Новая" }).waitFor();

  expect(asked.filter((url) => url.includes("/sse/events/")).length).toBe(1);
  expect(await site.streams(manager, foreman)).toBe(1);
  // And hears each event once.
  expect(await page.getByRole("region", { name: "Сообщения" }).getByText(number).count()).toBe(1);
});
