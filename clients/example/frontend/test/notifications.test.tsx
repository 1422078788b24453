import { act, screen, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { session } from "../src/session";
import { anna, elsewhere, ivan } from "./server";
import { online, row, visit } from "./site";

const shown: { title: string; options: NotificationOptions }[] = [];

const made: FakeNotification[] = [];

class FakeNotification {
  static permission: NotificationPermission = "default";
  /** The user allows them. */
  static async requestPermission() {
    FakeNotification.permission = "granted";
    return FakeNotification.permission;
  }
  onclick: (() => void) | null = null;
  constructor(title: string, options: NotificationOptions) {
    shown.push({ title, options });
    made.push(this);
  }
  close() {}
}

beforeEach(() => {
  shown.length = 0;
  made.length = 0;
  FakeNotification.permission = "default";
  vi.stubGlobal("Notification", FakeNotification);
});

afterEach(() => void Reflect.deleteProperty(globalThis, "Notification"));

const hide = () => vi.spyOn(document, "hidden", "get").mockReturnValue(true);

test("a manager who wants it is notified of new estimates while the tab is hidden", async () => {
  const user = visit("/", anna);
  await online();
  await row("С-1");
  await user.click(screen.getByRole("button", { name: "Включить уведомления" }));
  expect(await screen.findByRole("button", { name: "Выключить уведомления" })).toBeInTheDocument();
  elsewhere.create({ number: "С-4", creator: 3 });
  expect(shown).toEqual([]);
  hide();
  elsewhere.update(1, { amount: "2.00" });
  elsewhere.create({ number: "С-5", creator: 3 });
  expect(shown.map(({ title }) => title)).toEqual(["Иван Петров создал смету «С-5»"]);
  expect(shown[0]?.options.body).toBe("Школа № 12 · Черновик");
});

test("a foreman is notified of changes, and of nothing once he does not want it any more", async () => {
  const user = visit("/", ivan);
  await online();
  await user.click(screen.getByRole("button", { name: "Включить уведомления" }));
  const off = await screen.findByRole("button", { name: "Выключить уведомления" });
  const hidden = hide();
  elsewhere.update(1, { amount: "2.00" });
  expect(shown.map(({ title }) => title)).toEqual(["Смета «С-1» изменена"]);
  hidden.mockReturnValue(false);
  await user.click(off);
  hidden.mockReturnValue(true);
  elsewhere.update(1, { amount: "3.00" });
  expect(shown).toHaveLength(1);
});

test("a foreman is notified of an estimate that a manager makes for him", async () => {
  localStorage.setItem("smeta-notifications-3", "on");
  FakeNotification.permission = "granted";
  visit("/", ivan);
  await online();
  hide();
  elsewhere.create({ number: "С-4", creator: 1, foreman: 3 });
  expect(shown.map(({ title }) => title)).toEqual(["Анна Соколова создала смету «С-4»"]);
});

test("a click on a notification shows its estimate, without loading the page anew", async () => {
  localStorage.setItem("smeta-notifications-1", "on");
  FakeNotification.permission = "granted";
  visit("/", anna);
  await online();
  hide();
  elsewhere.create({ number: "С-4", creator: 3 });
  await waitFor(() => expect(made[0]?.onclick).toBeTruthy());
  act(() => made[0]?.onclick?.());
  expect(await screen.findByRole("heading", { name: "С-4" })).toBeInTheDocument();
});

test("of a burst the rest is counted, in Russian", async () => {
  localStorage.setItem("smeta-notifications-1", "on");
  FakeNotification.permission = "granted";
  visit("/", anna);
  await online();
  hide();
  vi.useFakeTimers({ shouldAdvanceTime: true });
  for (const number of ["Б-1", "Б-2", "Б-3", "Б-4", "Б-5"]) elsewhere.create({ number, creator: 3 });
  act(() => vi.advanceTimersByTime(10_000));
  vi.useRealTimers();
  await waitFor(() => expect(shown.at(-1)?.title).toMatch(/^И ещё 2\sуведомления$/));
});

test("what one user wants, the next one in the same browser has not asked for", async () => {
  const user = visit("/", anna);
  await online();
  await user.click(screen.getByRole("button", { name: "Включить уведомления" }));
  await screen.findByRole("button", { name: "Выключить уведомления" });
  act(() => session.start({ token: "token-of-foreman1", user: ivan }));
  expect(await screen.findByRole("button", { name: "Включить уведомления" })).toBeInTheDocument();
  await online();
  const hidden = hide();
  elsewhere.update(1, { amount: "2.00" });
  expect(shown).toEqual([]);
  hidden.mockReturnValue(false);
  act(() => session.start({ token: "token-of-manager1", user: anna }));
  expect(await screen.findByRole("button", { name: "Выключить уведомления" })).toBeInTheDocument();
});

test("nobody is notified who has not asked for it, also if the browser would allow it", async () => {
  FakeNotification.permission = "granted";
  visit("/", anna);
  await online();
  expect(screen.getByRole("button", { name: "Включить уведомления" })).toBeEnabled();
  hide();
  elsewhere.create({ number: "С-4", creator: 3 });
  expect(shown).toEqual([]);
});

test("where the user forbade them the button says so", async () => {
  FakeNotification.permission = "denied";
  visit("/", anna);
  await waitFor(() => expect(screen.getByRole("button", { name: "Уведомления запрещены" })).toBeDisabled());
});
