// Photographs the main pages for ../README.md: npm run screenshots. The data are those of the demo, as of one day.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { BrowserContextOptions, Page } from "playwright-core";
import { beforeAll } from "vitest";
import type { Site } from "./support/site.ts";
import { logIn, online, row, test } from "./support/test.ts";

const PLACE = join(import.meta.dirname, "..", "screenshots");
const NOW = "2026-11-23T11:40:00+03:00";
const LATEST = "Смета_2026-11-23_Школа № 12";
const DESK: BrowserContextOptions = { viewport: { width: 1200, height: 780 } };
const PHONE: BrowserContextOptions = {
  viewport: { width: 390, height: 780 },
  deviceScaleFactor: 2,
  isMobile: true,
  hasTouch: true,
};

const shoot = (page: Page, name: string) =>
  page.screenshot({ path: join(PLACE, `${name}.png`), animations: "disabled" });

/** Moves what the demo has made to the day of the pictures; what an earlier picture added goes. */
async function settle(site: Site): Promise<void> {
  await site.shell(`
from datetime import datetime, timedelta
from api.models import Estimate
Estimate.objects.filter(number="${LATEST}").delete()
now = datetime.fromisoformat("${NOW}") - timedelta(minutes=25)
late = max(Estimate.objects.values_list("created_at", flat=True))
for one in Estimate.objects.all():
    made = now - timedelta(days=(late - one.created_at).days)
    number = f"Смета_{made.date()}_{one.project.name}"
    Estimate.objects.filter(pk=one.pk).update(number=number, created_at=made, updated_at=made)
`);
}

/** Has a foreman create an estimate at that time. */
async function create(site: Site): Promise<void> {
  await site.shell(`
from datetime import datetime
from django.db import transaction
from api.models import Estimate, Project, User
now = datetime.fromisoformat("${NOW}")
with transaction.atomic():
    made = Estimate.objects.create(
        number="${LATEST}", project=Project.objects.get(name="Школа № 12"), status="На согласовании", amount="184300.00",
        creator=User.objects.get(username="foreman2"), foreman=User.objects.get(username="foreman2"), created_at=now,
    )
    Estimate.objects.filter(pk=made.pk).update(updated_at=now)
`);
}

beforeAll(() => mkdirSync(PLACE, { recursive: true }));

/** Shows somebody his list, or nobody the login page. */
const pictures = test.extend(
  "page",
  ({ open, site }) =>
    async (username: string, options: BrowserContextOptions) => {
      await settle(site);
      const context = await open({ timezoneId: "Europe/Moscow", reducedMotion: "reduce", ...options });
      await context.clock.setFixedTime(NOW);
      const page = await context.newPage();
      await page.goto("/");
      if (username) {
        await logIn(page, username, site.ready.password);
        await online(page);
        await row(page, "Смета_2026-11-23_Склад «Логистик-Юг»").waitFor();
        await page.mouse.move(0, 0);
      }
      return page;
    },
);

pictures("login", async ({ page }) => {
  await shoot(await page("", DESK), "login");
});

for (const [name, colorScheme] of [
  ["list", "light"],
  ["dark", "dark"],
] as const) {
  pictures(name, async ({ page, site }) => {
    const list = await page("manager1", { ...DESK, colorScheme });
    await create(site);
    await row(list, LATEST).filter({ hasText: "Новая" }).waitFor();
    await shoot(list, name);
  });
}

pictures("form", async ({ page }) => {
  const form = await page("manager1", DESK);
  await form.getByRole("link", { name: "Смета_2026-11-14_ЖК «Северный парк»" }).click();
  await form.getByRole("link", { name: "Изменить", exact: true }).click();
  await form.getByRole("textbox", { name: "Сумма" }).fill("492 800");
  await shoot(form, "form");
});

pictures("phone", async ({ page }) => {
  await shoot(await page("foreman1", PHONE), "phone");
});
