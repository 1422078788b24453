import type { BrowserContext, Page } from "playwright-core";
import { expect } from "vitest";
import { online, row, test } from "../support/test.ts";

interface Made {
  title: string;
  tag: string | undefined;
}

/** Pages of this browser keep what they notify of, and can be hidden: those of a headless Chromium never are. */
async function prepare(context: BrowserContext): Promise<void> {
  await context.grantPermissions(["notifications"]);
  await context.addInitScript(() => {
    const made: Made[] = [];
    const Real = window.Notification;
    class Spy extends Real {
      constructor(title: string, options?: NotificationOptions) {
        super(title, options);
        made.push({ title, tag: options?.tag });
      }
    }
    let hidden = false;
    Object.defineProperty(document, "hidden", { get: () => hidden });
    Object.defineProperty(document, "visibilityState", { get: () => (hidden ? "hidden" : "visible") });
    Object.assign(window, {
      Notification: Spy,
      made,
      hide: () => {
        hidden = true;
        document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
      },
    });
  });
}

const hide = (page: Page) => page.evaluate(() => (window as unknown as { hide(): void }).hide());
const made = (page: Page) => page.evaluate(() => (window as unknown as { made: Made[] }).made);

test("while the tabs are hidden, what others do is notified once for all of them", async ({
  open,
  hire,
  visit,
  site,
}) => {
  const [manager, foreman] = [hire("manager"), hire("foreman")];
  const context = await open();
  await prepare(context);
  const page = await visit(manager, context);
  await page.getByRole("button", { name: "Включить уведомления" }).click();
  await page.getByRole("button", { name: "Выключить уведомления" }).waitFor();
  const second = await context.newPage();
  await second.goto("/");
  await online(second);

  const seen = await site.estimate(foreman);
  await row(page, seen.number).waitFor();
  await row(second, seen.number).waitFor();

  await hide(page);
  await hide(second);
  const more = [await site.estimate(foreman), await site.estimate(foreman)];
  // Of several with the same tag a browser shows one.
  const shown = async () =>
    new Map([...(await made(page)), ...(await made(second))].map((one) => [one.tag, one.title]));
  const sentences = more.map((one) => `${foreman.name} создал смету «${one.number}»`);
  await expect.poll(async () => [...(await shown()).values()]).toEqual(sentences);
});

test("nobody is notified who has not asked for it", async ({ open, hire, visit, site }) => {
  const [manager, foreman] = [hire("manager"), hire("foreman")];
  const context = await open();
  await prepare(context);
  const page = await visit(manager, context);
  await hide(page);
  await row(page, (await site.estimate(foreman)).number).waitFor();
  expect(await made(page)).toEqual([]);
});
