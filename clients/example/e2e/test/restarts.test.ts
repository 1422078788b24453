import { expect } from "vitest";
import { OwnSite } from "../support/site.ts";
import { test as base, lost, NETWORK_FAILURE, online, row } from "../support/test.ts";

/** A site whose sse is restarted does harm to the other tests. */
const test = base.extend("site", { scope: "file" }, async ({}, { onCleanup }) => {
  const site = await OwnSite.start();
  onCleanup(() => site.stop());
  return site;
});

test("sse is killed: the page says that it is lost, then that it is back, and what happened in between is there", async ({
  hire,
  visit,
  site,
  allowed,
}) => {
  allowed.push(NETWORK_FAILURE);
  const [manager, foreman] = [hire("manager"), hire("foreman")];
  const [office, yard] = await Promise.all([visit(manager), visit(foreman)]);
  const before = await site.estimate(foreman, { amount: "100.00" });
  for (const page of [office, yard]) await row(page, before.number).waitFor();

  const meanwhile = await site.withoutSse(async () => {
    for (const page of [office, yard]) await lost(page).waitFor();
    const made = await site.estimate(foreman);
    await site.api(manager, "PATCH", `estimates/${before.id}/`, { amount: "555.00" });
    return made;
  });

  for (const page of [office, yard]) {
    await lost(page).waitFor({ state: "hidden" });
    await online(page);
    await row(page, meanwhile.number).waitFor();
    await row(page, before.number)
      .filter({ hasText: /555\s₽/ })
      .waitFor();
  }
  const after = await site.estimate(foreman);
  for (const page of [office, yard]) await row(page, after.number).waitFor();
});

test("sse is restarted: the page says that it is lost, then that it is back, and nothing is missing", async ({
  hire,
  visit,
  site,
  allowed,
}) => {
  allowed.push(NETWORK_FAILURE);
  const [manager, foreman] = [hire("manager"), hire("foreman")];
  const page = await visit(manager);
  const before = await site.estimate(foreman);
  await row(page, before.number).waitFor();

  const restarted = site.restartSse();
  await lost(page).waitFor();
  const meanwhile = await site.estimate(foreman);
  await restarted;
  const after = await site.estimate(foreman);

  await lost(page).waitFor({ state: "hidden" });
  await online(page);
  for (const { number } of [meanwhile, after]) await row(page, number).waitFor();
});

test("a page that is opened while sse is away is complete, and live once it is back", async ({
  hire,
  visit,
  site,
  allowed,
}) => {
  allowed.push(NETWORK_FAILURE);
  const [manager, foreman] = [hire("manager"), hire("foreman")];
  const page = await visit(manager);
  const meanwhile = await site.withoutSse(async () => {
    const made = await site.estimate(foreman);
    await page.reload();
    await row(page, made.number).waitFor();
    return made;
  });
  await online(page);
  await site.api(manager, "DELETE", `estimates/${meanwhile.id}/`);
  await row(page, meanwhile.number).waitFor({ state: "detached" });
});

test("a token that is deleted while sse is away opens no stream any more", async ({
  hire,
  visit,
  site,
  allowed,
}) => {
  allowed.push(NETWORK_FAILURE, /status of 401/);
  const [manager, foreman] = [hire("manager"), hire("foreman")];
  const page = await visit(foreman);
  await site.withoutSse(() =>
    site.shell(`
from rest_framework.authtoken.models import Token
Token.objects.get(user_id=${foreman.id}).delete()
`),
  );
  await page.waitForURL("**/login");
  await page.getByRole("status").filter({ hasText: "Войдите снова." }).waitFor();
  expect(await site.streams(foreman, manager)).toBe(0);
});
