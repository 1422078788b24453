// What a test gets: people, and browsers in which they look at the site.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type BrowserContext, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { test as base, expect, inject } from "vitest";
import { type Person, type Role, Site } from "./site.ts";

/** How many managers, and foremen, a file of tests has. */
const EACH = 12;
const FAILED = join(import.meta.dirname, "..", "failed");
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** What Chromium itself logs of a connection that fails or ends. */
export const NETWORK_FAILURE =
  /^Failed to load resource: (net::ERR_\w+|the server responded with a status of 50\d)/;

export const test = base
  .extend("browser", { scope: "file" }, async ({}, { onCleanup }) => {
    const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
    onCleanup(() => browser.close());
    return browser;
  })
  /** The site that all share. */
  .extend("site", { scope: "file" }, ({}): Site => new Site(inject("site")))
  .extend("people", { scope: "file" }, ({ site }) => site.hire(EACH))
  /** Returns somebody whom no other test knows. */
  .extend("hire", ({ people }) => (role: Role): Person => {
    const index = people.findIndex((person) => person.role === role);
    const [person] = index < 0 ? [] : people.splice(index, 1);
    if (!person) throw new Error(`there is no ${role} left of ${EACH}`);
    return person;
  })
  /** What may stand in the console as an error, because the test is about that. */
  .extend("allowed", (): RegExp[] => [])
  /** Opens a browser with a profile of its own. What its pages log as errors fails the test. */
  .extend("open", async ({ browser, site, allowed, task }, { onCleanup }) => {
    const contexts: BrowserContext[] = [];
    const errors: string[] = [];
    onCleanup(async () => {
      if (task.result?.state === "fail") await photograph(task.name, contexts);
      for (const context of contexts) await context.close();
      expect(errors.filter((text) => !allowed.some((one) => one.test(text)))).toEqual([]);
    });
    return async (options: BrowserContextOptions = {}): Promise<BrowserContext> => {
      const context = await browser.newContext({ baseURL: site.ready.url, locale: "ru-RU", ...options });
      context.on("console", (message) => {
        if (message.type() === "error" || message.type() === "warning") errors.push(message.text());
      });
      context.on("weberror", (error) => errors.push(String(error.error())));
      contexts.push(context);
      return context;
    };
  })
  /** Lets a person log in, in a browser of his own or in a given one, and returns the list that he is shown. */
  .extend("visit", ({ open, site }) => async (who: Person, where?: BrowserContext): Promise<Page> => {
    const page = await (where ?? (await open())).newPage();
    await page.goto("/");
    await logIn(page, who.username, site.ready.password);
    await online(page);
    return page;
  });

async function photograph(name: string, contexts: readonly BrowserContext[]): Promise<void> {
  mkdirSync(FAILED, { recursive: true });
  const pages = contexts.flatMap((context) => context.pages());
  for (const [n, page] of pages.entries()) {
    const path = join(FAILED, `${name.replaceAll(/[^\w]+/g, "-")}-${n}.png`);
    // A page that hangs has no picture; the test has failed for a better reason.
    await page.screenshot({ path, timeout: 5_000 }).catch(() => undefined);
  }
}

// ---- what is on the pages ----

export async function logIn(page: Page, username: string, password: string): Promise<void> {
  await page.getByRole("textbox", { name: "Имя пользователя" }).fill(username);
  await page.getByRole("textbox", { name: "Пароль" }).fill(password);
  await page.getByRole("button", { name: "Войти" }).click();
}

/** Waits until the page hears of what others do. */
export async function online(page: Page): Promise<void> {
  await page.getByRole("status").filter({ hasText: "На связи" }).waitFor();
}

export const lost = (page: Page) => page.getByRole("alert").filter({ hasText: "Связь с сервером потеряна." });

/** The row of an estimate in the list. */
export const row = (page: Page, number: string) =>
  page
    .getByRole("table", { name: "Сметы" })
    .getByRole("row")
    .filter({ has: page.getByRole("link", { name: number, exact: true }) });

/** A message about what somebody else did. */
export const message = (page: Page, text: string) =>
  page.getByRole("region", { name: "Сообщения" }).getByText(text, { exact: true });

/** Every event that the server sends to this page, as it comes; also what the page itself would ignore. */
export async function eavesdrop(page: Page): Promise<string[]> {
  const heard: string[] = [];
  const session = await page.context().newCDPSession(page);
  session.on("Network.eventSourceMessageReceived", ({ data }) => heard.push(data));
  await session.send("Network.enable");
  return heard;
}
