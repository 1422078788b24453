import { screen, waitFor, within } from "@testing-library/react";
import { expect, test } from "vitest";
import type { Estimate } from "../src/types";
import { anna, ivan, site } from "./server";
import { online, row, visit } from "./site";

test("the list shows how many there are, and their sum", async () => {
  visit("/", anna);
  expect(await screen.findByText(/3\s+сметы на сумму/)).toHaveTextContent(/3\s030,50/);
});

test("the list is filtered by project and status", async () => {
  const user = visit("/", anna);
  await row("С-2");
  await user.click(await screen.findByRole("link", { name: /Школа № 12/ }));
  await waitFor(() => expect(screen.queryByRole("link", { name: "С-2" })).not.toBeInTheDocument());
  await user.selectOptions(screen.getByLabelText("Статус"), "На согласовании");
  await waitFor(() => expect(screen.queryByRole("link", { name: "С-1" })).not.toBeInTheDocument());
  expect(screen.getByRole("link", { name: "С-3" })).toBeInTheDocument();
  expect(screen.getByText(/1\s+смета на сумму/)).toHaveTextContent("30");
});

test("an estimate is created with what was typed, and shown", async () => {
  const user = visit("/estimates/new", anna);
  await user.type(await screen.findByLabelText("Номер"), "С-9");
  await user.type(screen.getByLabelText("Сумма"), "12 500,50");
  await user.selectOptions(screen.getByLabelText("Проект"), "Склад");
  await user.selectOptions(screen.getByLabelText("Прораб"), "Иван Петров");
  await user.click(screen.getByRole("button", { name: "Создать смету" }));
  expect(await screen.findByRole("heading", { name: "С-9" })).toBeInTheDocument();
  expect(site.writes).toEqual([
    'POST /estimates/ {"number":"С-9","project":2,"foreman":3,"status":"Черновик","amount":"12500.50"}',
  ]);
});

test("what the server finds wrong is said at the field, which has the focus", async () => {
  const user = visit("/estimates/new", anna);
  await user.type(await screen.findByLabelText("Сумма"), "много");
  await user.click(screen.getByRole("button", { name: "Создать смету" }));
  expect(await screen.findByText("Исправьте отмеченные поля.")).toBeInTheDocument();
  expect(screen.getByLabelText("Сумма")).toHaveAccessibleDescription("Требуется численное значение.");
  expect(screen.getByLabelText("Проект")).toHaveAccessibleDescription("Это поле не может быть пустым.");
  expect(screen.getByLabelText("Сумма")).toBeInvalid();
  expect(screen.getByLabelText("Сумма")).toHaveFocus();
});

test("only what was changed is sent", async () => {
  const user = visit("/estimates/1/edit", anna);
  await user.selectOptions(await screen.findByLabelText("Прораб"), "Сергей Кузнецов");
  await user.click(screen.getByRole("button", { name: "Сохранить" }));
  expect(await screen.findByRole("heading", { name: "С-1" })).toBeInTheDocument();
  expect(site.writes).toEqual(['PATCH /estimates/1/ {"foreman":4}']);
});

test("a foreman assigns nobody, and does not approve", async () => {
  visit("/estimates/1/edit", ivan);
  const statuses = within(await screen.findByLabelText("Статус")).getAllByRole("option");
  expect(statuses.map((option) => option.textContent)).toEqual(["Черновик", "На согласовании"]);
  expect(screen.queryByLabelText("Прораб")).not.toBeInTheDocument();
  expect(screen.getByLabelText("Проект")).toBeDisabled();
});

test.each(["Согласована", "Отклонена"] as const)(
  "a foreman can only look at an estimate that is %s",
  async (status) => {
    Object.assign(site.estimates[0] as Estimate, { status });
    visit("/estimates/1", ivan);
    expect(await screen.findByText(status)).toBeInTheDocument();
    expect(screen.queryByRole("link", { name: "Изменить" })).not.toBeInTheDocument();
    expect(screen.queryByRole("button", { name: "Удалить" })).not.toBeInTheDocument();
  },
);

test("a filter keeps the focus, and the next page has it on its heading", async () => {
  const user = visit("/", anna);
  await row("С-2");
  const status = screen.getByLabelText("Статус");
  status.focus();
  await user.selectOptions(status, "Черновик");
  await waitFor(() => expect(screen.queryByRole("link", { name: "С-2" })).not.toBeInTheDocument());
  expect(status).toHaveFocus();
  await user.click(screen.getByRole("link", { name: "С-1" }));
  expect(await screen.findByRole("heading", { name: "С-1" })).toHaveFocus();
});

test("a manager approves with one click", async () => {
  const user = visit("/estimates/3", anna);
  await user.click(await screen.findByRole("button", { name: "Согласовать" }));
  expect(await screen.findByText("Согласована")).toBeInTheDocument();
  expect(screen.queryByRole("button", { name: "Отклонить" })).not.toBeInTheDocument();
  await waitFor(() => expect(site.writes).toEqual(['PATCH /estimates/3/ {"status":"Согласована"}']));
});

test("an estimate is deleted once that is confirmed", async () => {
  const user = visit("/estimates/1", anna);
  await online();
  await user.click(await screen.findByRole("button", { name: "Удалить" }));
  const question = screen.getByRole("alertdialog", { name: "Удалить смету?" });
  expect(site.writes).toEqual([]);
  await user.click(within(question).getByRole("button", { name: "Удалить" }));
  expect(await screen.findByRole("heading", { name: "Сметы" })).toBeInTheDocument();
  await row("С-2");
  expect(screen.queryByRole("link", { name: "С-1" })).not.toBeInTheDocument();
  expect(site.writes).toEqual(["DELETE /estimates/1/"]);
});
