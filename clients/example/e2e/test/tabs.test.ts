import type { Page } from "playwright-core";
import { expect } from "vitest";
import { type Estimate, unique } from "../support/site.ts";
import { lost, NETWORK_FAILURE, online, row, test } from "../support/test.ts";

const TABS = 7;

/** Opens the other tabs of a browser in which somebody is logged in. Returns all of them. */
async function openTabs(first: Page): Promise<Page[]> {
  const pages = [first];
  while (pages.length < TABS) {
    const page = await first.context().newPage();
    const answer = await page.goto("/");
    expect(await answer?.httpVersion()).toBe("HTTP/1.1");
    await online(page);
    pages.push(page);
  }
  return pages;
}

/** Collects the events that a page hears of; it logs them if localStorage has "sse-debug". */
function listen(page: Page): Promise<{ event: string; number: string | undefined }>[] {
  const heard: Promise<{ event: string; number: string | undefined }>[] = [];
  page.on("console", (message) => {
    const [, event, data] = message.args();
    if (!event || !data || !message.text().startsWith("[EventBus]")) return;
    const one = (async () => ({
      event: String(await event.jsonValue()),
      number: ((await data.jsonValue()) as Partial<{ estimate_number: string }> | null)?.estimate_number,
    }))();
    one.catch(() => {}); // one that comes when the test is over and the page closes; who awaits it is still told
    heard.push(one);
  });
  return heard;
}

test("seven tabs are live over HTTP/1.1, with one stream at sse", async ({ hire, visit, site }) => {
  const [manager, foreman] = [hire("manager"), hire("foreman")];
  const pages = await openTabs(await visit(manager));
  const { number } = await site.estimate(foreman);
  for (const page of pages) await row(page, number).filter({ hasText: "Новая" }).waitFor();
  expect(await site.streams(manager, foreman)).toBe(1);
});

test("the tab that has the stream is closed: the others go on without a gap", async ({
  hire,
  visit,
  open,
  site,
}) => {
  const [manager, foreman] = [hire("manager"), hire("foreman")];
  const streams = new Set<Page>();
  const context = await open();
  await context.addInitScript(
    () => location.protocol === "http:" && localStorage.setItem("sse-debug", "yes"),
  );
  context.on("request", (request) => {
    if (request.url().includes("/sse/events/")) streams.add(request.frame().page());
  });
  const pages = await openTabs(await visit(manager, context));
  expect(streams.size).toBe(1);
  const [leader] = streams;
  const others = pages.filter((page) => page !== leader);
  expect(others.length).toBe(TABS - 1);
  const heard = others.map(listen);

  const mark = unique("С");
  const made: Estimate[] = [];
  for (let n = 0; n < 30; n++) {
    if (n === 10) void leader?.close();
    made.push(await site.estimate(foreman, { number: `${mark}-${n}` }));
  }
  for (const page of others) await row(page, `${mark}-29`).waitFor();
  for (const page of others) {
    await online(page);
    expect(await lost(page).count()).toBe(0);
  }
  // The list would be complete after a gap, too, as the page then asks for it anew.
  for (const one of heard) {
    const events = await Promise.all(one);
    expect(events.filter(({ event }) => event.startsWith("system."))).toEqual([]);
    const numbers = events.map(({ number }) => number).filter((number) => number?.startsWith(mark));
    expect(numbers).toEqual(made.map(({ number }) => number));
  }
  await expect.poll(() => site.streams(manager, foreman)).toBe(1);
});

test("offline and online again: what happened in between is there", async ({
  hire,
  visit,
  site,
  allowed,
}) => {
  allowed.push(NETWORK_FAILURE);
  const [manager, foreman] = [hire("manager"), hire("foreman")];
  const page = await visit(foreman);
  const before = await site.estimate(foreman);
  const deleted = await site.estimate(foreman);
  for (const { number } of [before, deleted]) await row(page, number).waitFor();

  await page.context().setOffline(true);
  await lost(page).waitFor();
  const meanwhile = await site.estimate(manager, { foreman: foreman.id });
  await site.api(manager, "PATCH", `estimates/${before.id}/`, { status: "Отклонена" });
  await site.api(manager, "DELETE", `estimates/${deleted.id}/`);
  expect(await row(page, meanwhile.number).count()).toBe(0);

  await page.context().setOffline(false);
  await row(page, meanwhile.number).waitFor();
  await row(page, before.number).filter({ hasText: "Отклонена" }).waitFor();
  await row(page, deleted.number).waitFor({ state: "detached" });
  await lost(page).waitFor({ state: "hidden" });
  await online(page);
  expect(await site.streams(foreman, manager)).toBe(1);
});
