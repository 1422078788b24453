import { expect, test } from "vitest";
import { amountOf, estimatesCount, money, quoted, shortly, sum } from "../src/format";
import { isFeminine } from "../src/live/words";

test.each([
  ["Анна Соколова", true],
  ["Мария Ким", true],
  ["Ольга Вишневская", true],
  ["Иван Петров", false],
  ["Илья Ким", false],
  ["Саша Белый", false],
  ["manager1", false],
])("the verb agrees with %s", (name, feminine) => {
  expect(isFeminine(name)).toBe(feminine);
});

test("quotes within a name become the inner ones", () => {
  expect(quoted("ЖК «Северный парк»")).toBe("«ЖК „Северный парк“»");
});

test.each([
  ["12 500,50", "12500.50"],
  ["12\u00a0500 ₽", "12500"],
  ["-1", "-1"],
  ["много", "много"],
])("an amount typed as %s is sent as %s", (typed, sent) => {
  expect(amountOf(typed)).toBe(sent);
});

test("kopecks are shown where there are any, and add up", () => {
  expect(money("12500.00")).toBe("12\u00a0500\u00a0₽");
  expect(money(sum(["0.10", "0.20"]))).toBe("0,30\u00a0₽");
});

test("estimates are counted as Russian counts", () => {
  expect([1, 2, 5, 11, 21].map(estimatesCount).map((text) => text.replace("\u00a0", " "))).toEqual([
    "1 смета",
    "2 сметы",
    "5 смет",
    "11 смет",
    "21 смета",
  ]);
});

test("a time of today is the hour, of this year the day, else the date", () => {
  const now = new Date(2026, 10, 23, 12);
  expect(shortly(new Date(2026, 10, 23, 8, 11).toISOString(), now)).toBe("08:11");
  expect(shortly(new Date(2026, 10, 21, 8, 11).toISOString(), now)).toBe("21 ноября");
  expect(shortly(new Date(2025, 10, 21, 8, 11).toISOString(), now)).toBe("21.11.2025");
});
