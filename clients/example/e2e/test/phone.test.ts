import type { Page } from "playwright-core";
import { expect } from "vitest";
import { unique } from "../support/site.ts";
import { logIn, message, online, test } from "../support/test.ts";

async function expectToFit(page: Page, width: number): Promise<void> {
  expect(await page.evaluate(() => document.documentElement.scrollWidth), page.url()).toBeLessThanOrEqual(
    width,
  );
  expect(await page.evaluate(() => innerWidth), page.url()).toBe(width);
}

test.for([
  { width: 390, height: 844 },
  { width: 360, height: 640 },
])(
  "on a phone, $width by $height, an estimate is made by touch, and nothing scrolls sideways",
  async (viewport, { open, hire, site }) => {
    const [foreman, manager] = [hire("foreman"), hire("manager")];
    const fits = (page: Page) => expectToFit(page, viewport.width);
    const context = await open({ viewport, hasTouch: true, isMobile: true, deviceScaleFactor: 2 });
    const page = await context.newPage();
    await page.goto("/");
    await page.getByRole("button", { name: "Войти" }).waitFor();
    await fits(page);
    await logIn(page, foreman.username, site.ready.password);
    await online(page);
    await site.estimate(foreman, {
      number: `Смета_2026-11-23_${unique("длинное-название-без-пробелов")}`.repeat(2),
    });
    await page.getByRole("link", { name: /длинное/ }).waitFor();
    await fits(page);

    await page.getByRole("link", { name: "Новая смета" }).tap();
    await page.getByRole("combobox", { name: "Проект" }).selectOption({ index: 2 });
    const number = unique("Смета");
    await page.getByRole("textbox", { name: "Номер" }).tap();
    await page.keyboard.type(number);
    await page.getByRole("textbox", { name: "Сумма" }).tap();
    await page.keyboard.type("1500");
    await fits(page);
    await page.getByRole("button", { name: "Создать смету" }).tap();
    await page.getByRole("heading", { name: number }).waitFor();
    await fits(page);

    await page.getByRole("link", { name: "Все сметы" }).tap();
    await page.getByRole("link", { name: number }).waitFor();
    const projects = page.getByRole("navigation", { name: "Проекты" });
    expect(await projects.getByRole("listitem").first().isVisible()).toBe(false);
    await projects.getByRole("button").first().tap();
    await projects.getByRole("listitem").first().waitFor();
    await fits(page);

    // What somebody else does is said here, too.
    const another = await site.estimate(manager, { number: unique("С"), foreman: foreman.id });
    await message(page, `${manager.name} создала смету «${another.number}»`).waitFor();
    await fits(page);
  },
);

test("a manager's page fits a phone, too", async ({ open, hire, visit, site }) => {
  const manager = hire("manager");
  const context = await open({ viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true });
  const page = await visit(manager, context);
  await expectToFit(page, 360);
  await page.getByRole("button", { name: "Новый проект" }).tap();
  await page.getByRole("dialog").waitFor();
  await expectToFit(page, 360);
  const { id } = await site.estimate(manager);
  await page.goto(`/estimates/${id}/edit`);
  await page.getByRole("combobox", { name: "Прораб" }).waitFor();
  await expectToFit(page, 360);
});
