import { screen, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { anna, elsewhere, ivan } from "./server";
import { online, row, visit } from "./site";

const shown: { title: string; options: NotificationOptions }[] = [];

class FakeNotification {
  static permission: NotificationPermission = "default";
  /** The user allows them. */
  static async requestPermission() {
    FakeNotification.permission = "granted";
    return FakeNotification.permission;
  }
  constructor(title: string, options: NotificationOptions) {
    shown.push({ title, options });
  }
}

beforeEach(() => {
  shown.length = 0;
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
