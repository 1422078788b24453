import { expect } from "vitest";
import { type Estimate, unique } from "../support/site.ts";
import { eavesdrop, message, row, test } from "../support/test.ts";

test("what a foreman creates is in every manager's list at once, and in no other foreman's", async ({
  hire,
  visit,
  site,
}) => {
  const [foreman, another] = [hire("foreman"), hire("foreman")];
  const pages = await Promise.all([hire("manager"), hire("manager")].map((manager) => visit(manager)));
  const hisPage = await visit(foreman);
  const othersPage = await visit(another);
  const heardByOther = await eavesdrop(othersPage);
  await othersPage.reload();
  const number = unique("Смета");

  await hisPage.getByRole("link", { name: "Новая смета" }).click();
  await hisPage.getByRole("textbox", { name: "Номер" }).fill(number);
  await hisPage.getByRole("combobox", { name: "Проект" }).selectOption({ index: 1 });
  await hisPage.getByRole("textbox", { name: "Сумма" }).fill("12 500,50");
  await hisPage.getByRole("button", { name: "Создать смету" }).click();
  await hisPage.getByRole("heading", { name: number }).waitFor();

  for (const page of pages) {
    const added = row(page, number);
    await added.filter({ hasText: "Новая" }).waitFor();
    expect(await added.textContent()).toMatch(/12\s500,50\s₽/);
    await message(page, `${foreman.name} создал смету «${number}»`).waitFor();
  }

  // What comes after it has come: so what did not come was not sent.
  const his = await site.estimate(another);
  await row(othersPage, his.number).waitFor();
  expect(await row(othersPage, number).count()).toBe(0);
  expect(heardByOther.some((data) => data.includes(his.number))).toBe(true);
  expect(heardByOther.filter((data) => data.includes(number))).toEqual([]);
});

test("an estimate without a number is called by its date and project", async ({ hire, visit }) => {
  const page = await visit(hire("foreman"));
  await page.getByRole("link", { name: "Новая смета" }).click();
  await page.getByRole("combobox", { name: "Проект" }).selectOption({ label: "Школа № 12" });
  await page.getByRole("button", { name: "Создать смету" }).click();
  await page.getByRole("heading", { name: /^Смета_\d{4}-\d\d-\d\d_Школа № 12$/ }).waitFor();
});

test("what a manager changes the assigned foreman sees at once, and who did it", async ({
  hire,
  visit,
  site,
}) => {
  const [manager, foreman] = [hire("manager"), hire("foreman")];
  const { id, number } = await site.estimate(foreman, { amount: "100.00" });
  const [office, yard] = await Promise.all([visit(manager), visit(foreman)]);
  await row(yard, number).waitFor();

  await office.getByRole("link", { name: number }).click();
  await office.getByRole("link", { name: "Изменить", exact: true }).click();
  await office.getByRole("textbox", { name: "Сумма" }).fill("777,00");
  await office.getByRole("combobox", { name: "Статус" }).selectOption("Согласована");
  await office.getByRole("button", { name: "Сохранить" }).click();
  await office.getByRole("heading", { name: number }).waitFor();

  await row(yard, number).filter({ hasText: "Изменена" }).filter({ hasText: "Согласована" }).waitFor();
  expect(await row(yard, number).textContent()).toMatch(/777\s₽/);
  await message(yard, `${manager.name} изменила смету «${number}»`).waitFor();
  // She is not told what she did herself.
  expect(await message(office, `${manager.name} изменила смету «${number}»`).count()).toBe(0);

  await yard.goto(`/estimates/${id}`);
  await yard.getByRole("heading", { name: number }).waitFor();
  await site.api(manager, "PATCH", `estimates/${id}/`, { comment: "Пересчитать полы" });
  await yard.getByText("Пересчитать полы").waitFor();
});

test("an estimate that is given to another foreman goes from one list to the other", async ({
  hire,
  visit,
  site,
}) => {
  const [manager, foreman, another] = [hire("manager"), hire("foreman"), hire("foreman")];
  const { number } = await site.estimate(foreman);
  const [office, his, others] = await Promise.all([visit(manager), visit(foreman), visit(another)]);
  await row(his, number).waitFor();
  expect(await row(others, number).count()).toBe(0);

  await office.getByRole("link", { name: number }).click();
  await office.getByRole("link", { name: "Изменить", exact: true }).click();
  await office.getByRole("combobox", { name: "Прораб" }).selectOption({ label: another.name });
  await office.getByRole("button", { name: "Сохранить" }).click();

  await row(others, number).waitFor();
  await row(his, number).waitFor({ state: "detached" });
  await message(his, `Смета «${number}» больше не назначена вам`).waitFor();
});

test("an estimate that is deleted is gone everywhere, and it is said who did it", async ({
  hire,
  visit,
  site,
}) => {
  const [manager, colleague, foreman] = [hire("manager"), hire("manager"), hire("foreman")];
  const { id, number } = await site.estimate(foreman);
  const [office, next, yard] = await Promise.all([visit(manager), visit(colleague), visit(foreman)]);
  await row(next, number).waitFor();
  await row(yard, number).waitFor();
  const opened = await yard.context().newPage();
  await opened.goto(`/estimates/${id}`);
  await opened.getByRole("heading", { name: number }).waitFor();

  await office.getByRole("link", { name: number }).click();
  await office.getByRole("button", { name: "Удалить" }).click();
  await office
    .getByRole("alertdialog", { name: "Удалить смету?" })
    .getByRole("button", { name: "Удалить" })
    .click();

  for (const page of [office, next, yard]) await row(page, number).waitFor({ state: "detached" });
  for (const page of [next, yard]) await message(page, `${manager.name} удалила смету «${number}»`).waitFor();
  await opened.getByRole("alert").filter({ hasText: "Эту смету удалили." }).waitFor();
});

test("a new project is in every manager's list of projects", async ({ hire, visit }) => {
  const manager = hire("manager");
  const [hers, next] = await Promise.all([visit(manager), visit(hire("manager"))]);
  const name = unique("Склад");
  await hers.getByRole("button", { name: "Новый проект" }).click();
  const dialog = hers.getByRole("dialog");
  await dialog.getByRole("textbox", { name: "Название" }).fill(name);
  await dialog.getByRole("button", { name: /Создать|Сохранить/ }).click();
  await next.getByRole("navigation", { name: "Проекты" }).getByRole("link", { name }).waitFor();
  await message(next, `${manager.name} создала проект «${name}»`).waitFor();
});

test("somebody changes an estimate that is open in a form: it is said, and nothing typed is lost", async ({
  hire,
  visit,
  site,
}) => {
  const [manager, foreman] = [hire("manager"), hire("foreman")];
  const { id, number } = await site.estimate(foreman, { amount: "100.00" });
  const yard = await visit(foreman);
  await yard.getByRole("link", { name: number }).click();
  await yard.getByRole("link", { name: "Изменить", exact: true }).click();
  const [amount, comment] = ["Сумма", "Комментарий"].map((name) => yard.getByRole("textbox", { name }));
  await amount?.fill("200");
  await comment?.fill("Набрано прорабом");

  await site.api(manager, "PATCH", `estimates/${id}/`, { amount: "300.00" });
  const conflict = yard.getByRole("alert").filter({ hasText: "Пока вы редактировали, смету изменили." });
  await conflict.waitFor();
  expect(await conflict.textContent()).toMatch(/Сумма: 300\s₽/);
  expect(await amount?.inputValue()).toBe("200");
  expect(await comment?.inputValue()).toBe("Набрано прорабом");

  await conflict.getByRole("button", { name: "Оставить введённое мной" }).click();
  await conflict.waitFor({ state: "detached" });
  await yard.getByRole("button", { name: "Сохранить" }).click();
  await yard.getByRole("heading", { name: number }).waitFor();
  const saved = await site.api<Estimate>(manager, "GET", `estimates/${id}/`);
  expect([saved.amount, saved.comment]).toEqual(["200.00", "Набрано прорабом"]);
});
