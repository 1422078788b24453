const roubles = new Intl.NumberFormat("ru-RU", { style: "currency", currency: "RUB" });
const whole = new Intl.NumberFormat("ru-RU", {
  style: "currency",
  currency: "RUB",
  maximumFractionDigits: 0,
});
const plural = new Intl.PluralRules("ru-RU");
const today = new Intl.DateTimeFormat("ru-RU", { timeStyle: "short" });
const thisYear = new Intl.DateTimeFormat("ru-RU", { day: "numeric", month: "long" });
const anyYear = new Intl.DateTimeFormat("ru-RU", { dateStyle: "short" });
const dayAndTime = new Intl.DateTimeFormat("ru-RU", { dateStyle: "medium", timeStyle: "short" });

/** "12500.00" → "12 500 ₽", "12500.50" → "12 500,50 ₽" */
export function money(amount: string | number): string {
  const value = Number(amount);
  return (Number.isInteger(value) ? whole : roubles).format(value);
}

/** The sum of decimal strings in kopecks, so that nothing is rounded. */
export function sum(amounts: readonly string[]): number {
  return amounts.reduce((total, amount) => total + Math.round(Number(amount) * 100), 0) / 100;
}

/** What the user types ("12 500,50") as the API takes it ("12500.50"). */
export function amountOf(text: string): string {
  return text.replace(/[\s\u00a0\u202f₽]/g, "").replace(",", ".");
}

/** 3, "смета", "сметы", "смет" → "3 сметы" */
export function count(n: number, one: string, few: string, many: string): string {
  const form = { one, few, many }[plural.select(n) as "one" | "few" | "many"];
  return `${n}\u00a0${form}`;
}

export const estimatesCount = (n: number) => count(n, "смета", "сметы", "смет");

/** "2026-11-23T05:11:00Z" → "23 нояб. 2026 г., 08:11" */
export const when = (iso: string) => dayAndTime.format(new Date(iso));

/** The same for a narrow column: "08:11" today, "21 ноября" this year, else "21.11.2025". */
export function shortly(iso: string, now = new Date()): string {
  const date = new Date(iso);
  if (date.toDateString() === now.toDateString()) return today.format(date);
  return (date.getFullYear() === now.getFullYear() ? thisYear : anyYear).format(date);
}

/** A name in quotes; those within it become the inner ones, as Russian has it. */
export function quoted(name: string): string {
  return `«${name.replaceAll("«", "„").replaceAll("»", "“")}»`;
}
