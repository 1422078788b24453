import { expect } from "vitest";
import { online, row, test } from "../support/test.ts";

test("logging out ends the streams of that user, and of nobody else", async ({ hire, visit, site }) => {
  const [foreman, manager] = [hire("foreman"), hire("manager")];
  const [yard, office] = await Promise.all([visit(foreman), visit(manager)]);
  expect(await site.streams(foreman, manager)).toBe(1);

  await yard.getByRole("button", { name: "Выйти" }).click();
  await yard.getByRole("button", { name: "Войти" }).waitFor();
  await expect.poll(() => site.streams(foreman, manager)).toBe(0);
  expect(await site.streams(manager, manager)).toBe(1);
  await online(office);
});

test("logging out on one device ends the session of the other, which says why", async ({ hire, visit }) => {
  const foreman = hire("foreman");
  const [phone, desk] = await Promise.all([visit(foreman), visit(foreman)]);
  await phone.getByRole("button", { name: "Выйти" }).click();
  await desk
    .getByRole("status")
    .filter({ hasText: "Доступ закрыт: вы вышли на другом устройстве" })
    .waitFor();
  await desk.getByRole("button", { name: "Войти" }).waitFor();
});

test("a token that is deleted in Django ends the stream, and the page says so", async ({
  hire,
  visit,
  site,
}) => {
  const [foreman, manager] = [hire("foreman"), hire("manager")];
  const page = await visit(foreman);
  await row(page, (await site.estimate(foreman)).number).waitFor();

  await site.shell(`
from rest_framework.authtoken.models import Token
Token.objects.get(user_id=${foreman.id}).delete()
`);
  await page.waitForURL("**/login");
  await page
    .getByRole("status")
    .filter({ hasText: "или его отозвал администратор. Войдите снова." })
    .waitFor();
  expect(await page.getByRole("table").count()).toBe(0);
  await expect.poll(() => site.streams(foreman, manager)).toBe(0);
});

test("a user who is deactivated in the admin is out", async ({ hire, visit, open, site }) => {
  const [foreman, boss] = [hire("foreman"), hire("manager")];
  const page = await visit(foreman);
  await site.shell(`
from api.models import User
User.objects.filter(pk=${boss.id}).update(is_staff=True, is_superuser=True)
`);
  const admin = await (await open()).newPage();
  await admin.goto("/admin/");
  await admin.getByRole("textbox", { name: "Имя пользователя" }).fill(boss.username);
  await admin.getByRole("textbox", { name: "Пароль" }).fill(site.ready.password);
  await admin.getByRole("button", { name: "Войти" }).click();
  await admin.goto(`/admin/api/user/${foreman.id}/change/`);
  await admin.getByRole("checkbox", { name: "Активный" }).uncheck();
  await admin.getByRole("button", { name: "Сохранить", exact: true }).click();

  await page.waitForURL("**/login");
  await page.getByRole("status").filter({ hasText: "Войдите снова." }).waitFor();
});

test("who logs in again is led back to where he was", async ({ hire, visit, site }) => {
  const foreman = hire("foreman");
  const { id, number } = await site.estimate(foreman);
  const page = await visit(foreman);
  await page.getByRole("link", { name: number }).click();
  await site.shell(`
from rest_framework.authtoken.models import Token
Token.objects.get(user_id=${foreman.id}).delete()
`);
  await page.getByRole("textbox", { name: "Имя пользователя" }).fill(foreman.username);
  await page.getByRole("textbox", { name: "Пароль" }).fill(site.ready.password);
  await page.getByRole("button", { name: "Войти" }).click();
  await page.waitForURL(`**/estimates/${id}`);
  await page.getByRole("heading", { name: number }).waitFor();
  await online(page);
});
