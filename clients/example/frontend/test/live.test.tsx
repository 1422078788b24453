import { act, screen, waitFor, within } from "@testing-library/react";
import { HttpResponse, http } from "msw";
import type { ConsoleTools } from "sse-react/console";
import { expect, test, vi } from "vitest";
import { anna, elsewhere, estimate, eventOf, ivan, server, site } from "./server";
import { messages, online, row, visit } from "./site";
import { streams } from "./stream";

/** The list, loaded, with a stream that is open. */
async function list(user = anna) {
  const hands = visit("/", user);
  await online();
  await row("С-1");
  return hands;
}

test("an estimate that somebody else created is in the list, highlighted, and it is said who did it", async () => {
  await list();
  elsewhere.create({ number: "С-4", creator: 3, foreman: 3 });
  const added = await row("С-4");
  expect(added).toHaveClass("fresh");
  expect(within(added).getByText("Новая")).toBeInTheDocument();
  expect(
    within(messages()).getByRole("link", { name: "Иван Петров создал смету «С-4»" }),
  ).toBeInTheDocument();
});

test("the highlight ends", async () => {
  await list();
  vi.useFakeTimers({ shouldAdvanceTime: true });
  elsewhere.update(1, { amount: "5.00" });
  const changed = await row("С-1");
  expect(changed).toHaveClass("fresh");
  act(() => vi.advanceTimersByTime(10_000));
  vi.useRealTimers();
  expect(changed).not.toHaveClass("fresh");
  expect(within(messages()).queryByText(/С-1/)).not.toBeInTheDocument();
});

test("an estimate that somebody else changed shows its new values", async () => {
  await list();
  elsewhere.update(1, { status: "Отклонена" });
  await waitFor(async () => expect(await row("С-1")).toHaveTextContent("Отклонена"));
  expect(await row("С-1")).toHaveTextContent("Изменена");
  expect(within(messages()).getByText("Смета «С-1» изменена")).toBeInTheDocument();
});

test("an estimate that somebody else deleted leaves the list", async () => {
  await list();
  elsewhere.remove(1);
  await waitFor(() => expect(screen.queryByRole("link", { name: "С-1" })).not.toBeInTheDocument());
  expect(within(messages()).getByText("Смета «С-1» удалена")).toBeInTheDocument();
});

test("it is said who changed and who deleted an estimate", async () => {
  await list();
  elsewhere.update(1, { status: "Отклонена" }, ivan);
  expect(await within(messages()).findByText("Иван Петров изменил смету «С-1»")).toBeInTheDocument();
  elsewhere.remove(1, ivan);
  expect(await within(messages()).findByText("Иван Петров удалил смету «С-1»")).toBeInTheDocument();
});

test("what happened a while ago is shown, but is no news", async () => {
  await list();
  const old = estimate({ number: "С-4", creator: 3 });
  site.estimates.unshift(old);
  streams.send("estimate.created", eventOf(old, ivan), Date.now() / 1000 - 121);
  expect(await row("С-4")).not.toHaveClass("fresh");
  const told = { project_id: 2, project_name: "Склад", actor_id: null, actor_name: null };
  streams.send("project.updated", told, Date.now() / 1000 - 121);
  expect(messages()).toBeEmptyDOMElement();
  streams.send("project.updated", told);
  expect(await within(messages()).findByText("Проект «Склад» изменён")).toBeInTheDocument();
});

test("how long ago it happened the clock of the server says, not that of the computer", async () => {
  site.aheadMs = 3_600_000;
  await list();
  function create(number: string, secondsAgo: number) {
    const made = estimate({ number, creator: 3 });
    site.estimates.unshift(made);
    streams.send("estimate.created", eventOf(made, ivan), (Date.now() + site.aheadMs) / 1000 - secondsAgo);
  }
  create("С-4", 180);
  create("С-5", 0);
  expect(await row("С-5")).toHaveClass("fresh");
  expect(await row("С-4")).not.toHaveClass("fresh");
});

test("what the user does on another device is shown, but not told", async () => {
  await list();
  elsewhere.update(1, { status: "Отклонена" }, anna);
  await waitFor(async () => expect(await row("С-1")).toHaveTextContent("Отклонена"));
  expect(await row("С-1")).not.toHaveTextContent("Изменена");
  expect(within(messages()).queryByText(/С-1/)).not.toBeInTheDocument();
});

test("a foreman is told that an estimate is not his any more", async () => {
  await list(ivan);
  elsewhere.update(1, { foreman: 4 });
  expect(await within(messages()).findByText("Смета «С-1» больше не назначена вам")).toBeInTheDocument();
});

test("nobody is told of what he did himself", async () => {
  const user = visit("/estimates/1/edit", anna);
  await online();
  await user.clear(await screen.findByLabelText("Сумма"));
  await user.type(screen.getByLabelText("Сумма"), "7");
  await user.click(screen.getByRole("button", { name: "Сохранить" }));
  expect(await screen.findByText(/^7\s₽$/)).toBeInTheDocument();
  expect(messages()).toBeEmptyDOMElement();
  // The next change of the same estimate is somebody else's.
  elsewhere.update(1, { amount: "8.00" });
  expect(await within(messages()).findByText("Смета «С-1» изменена")).toBeInTheDocument();
});

test("of a burst the last three are shown, and the others counted", async () => {
  await list();
  for (const number of ["Б-1", "Б-2", "Б-3", "Б-4", "Б-5"]) elsewhere.create({ number, creator: 3 });
  expect(await within(messages()).findByText("и ещё 2")).toBeInTheDocument();
  expect(within(messages()).getAllByRole("link")).toHaveLength(3);
  await row("Б-5");
});

/** The form of the first estimate, with a comment that was typed and not saved. */
async function typing(user = anna) {
  const hands = visit("/estimates/1/edit", user);
  await online();
  await hands.type(await screen.findByLabelText("Комментарий"), "важно");
  return hands;
}

test("what somebody else changed does not touch what is being typed, and can be taken", async () => {
  const user = await typing();
  elsewhere.update(1, { amount: "99.00", comment: "чужое" });
  const notice = await screen.findByText(/Пока вы редактировали, смету изменили/);
  const about = notice.closest("[role=alert]") as HTMLElement;
  expect(about).toHaveTextContent(/Сумма: 99\s₽/);
  expect(about).toHaveTextContent("Комментарий: чужое");
  expect(screen.getByLabelText("Комментарий")).toHaveValue("важно");
  expect(screen.getByLabelText("Сумма")).toHaveValue("1000,50");

  await user.click(screen.getByRole("button", { name: "Взять новые значения" }));
  expect(screen.getByLabelText("Комментарий")).toHaveValue("чужое");
  expect(screen.getByLabelText("Сумма")).toHaveValue("99");
  expect(notice).not.toBeInTheDocument();
});

test("what is being typed can be kept, beside what somebody else changed in other fields", async () => {
  const user = await typing();
  elsewhere.update(1, { amount: "99.00", comment: "чужое" });
  await user.click(await screen.findByRole("button", { name: "Оставить введённое мной" }));
  expect(screen.getByLabelText("Комментарий")).toHaveValue("важно");
  expect(screen.getByLabelText("Сумма")).toHaveValue("99");
  await user.click(screen.getByRole("button", { name: "Сохранить" }));
  await screen.findByRole("heading", { name: "С-1" });
  expect(site.writes).toEqual(['PATCH /estimates/1/ {"comment":"важно"}']);
});

test("saving is not taken for a change by somebody else, also if its event comes before the answer", async () => {
  const user = await typing();
  let answer = () => {};
  const answered = new Promise<void>((resolve) => {
    answer = resolve;
  });
  server.use(
    http.patch("/api/v1/estimates/1/", async () => {
      elsewhere.update(1, { comment: "важно", amount: "1.00" });
      await answered;
      return HttpResponse.json(site.estimates[0]);
    }),
  );
  await user.click(screen.getByRole("button", { name: "Сохранить" }));
  await waitFor(() => expect(screen.getByRole("button", { name: "Сохранить" })).toBeDisabled());
  expect(screen.queryByText(/Пока вы редактировали/)).not.toBeInTheDocument();
  answer();
  expect(await screen.findByRole("heading", { name: "С-1" })).toBeInTheDocument();
});

test("an estimate that is deleted while it is edited can't be saved, and what was typed stays", async () => {
  await typing();
  elsewhere.remove(1);
  expect(await screen.findByText(/Эту смету удалили\./)).toBeInTheDocument();
  expect(screen.getByRole("button", { name: "Сохранить" })).toBeDisabled();
  expect(screen.getByLabelText("Комментарий")).toHaveValue("важно");
});

test("an estimate that is approved while a foreman edits it can't be saved, and what was typed stays", async () => {
  await typing(ivan);
  elsewhere.update(1, { status: "Согласована" }, anna);
  expect(await screen.findByText(/изменить её теперь может только менеджер/)).toBeInTheDocument();
  expect(screen.getByRole("button", { name: "Сохранить" })).toBeDisabled();
  expect(screen.getByLabelText("Комментарий")).toHaveValue("важно");
});

test("an estimate that is known to be gone is not asked for again", async () => {
  await typing();
  site.reads = [];
  elsewhere.remove(1);
  await waitFor(() => expect(site.reads).toContain("/projects/"));
  site.reads = [];
  streams.send("system.resync", { reason: "too_old" });
  await waitFor(() => expect(site.reads).toContain("/projects/"));
  expect(site.reads).not.toContain("/estimates/1/");
});

test("a foreman who loses an estimate while he looks at it is told so, and is told when it is back", async () => {
  visit("/estimates/1", ivan);
  await online();
  await screen.findByRole("heading", { name: "С-1" });
  elsewhere.update(1, { foreman: 4 });
  expect(await screen.findByText(/Эту смету передали другому прорабу/)).toBeInTheDocument();
  expect(screen.queryByRole("link", { name: "Изменить" })).not.toBeInTheDocument();
  elsewhere.update(1, { foreman: 3, comment: "снова ваша" });
  expect(await screen.findByText("снова ваша")).toBeInTheDocument();
  expect(screen.getByRole("link", { name: "Изменить" })).toBeInTheDocument();
});

test("a lost connection is said until it is back, and the button tries at once", async () => {
  const user = await list();
  streams.down = true;
  streams.break();
  const banner = (await screen.findByText(/Связь с сервером потеряна/)).closest(
    "[role=alert]",
  ) as HTMLElement;
  streams.down = false;
  await user.click(within(banner).getByRole("button", { name: "Подключиться" }));
  await waitFor(() => expect(screen.queryByText(/Связь с сервером потеряна/)).not.toBeInTheDocument());
  elsewhere.create({ number: "С-4", creator: 3 });
  await row("С-4");
});

test("test events from the browser's console are shown as if they had come from the server", async () => {
  await list();
  const tools = () => (window as unknown as Partial<ConsoleTools>).SSETestUtils;
  await waitFor(() => expect(tools()).toBeDefined());
  act(() => void tools()?.createTestEstimateEvent({ estimate_number: "С-77", creator_name: "Пётр Ильин" }));
  expect(await within(messages()).findByText("Пётр Ильин создал смету «С-77»")).toBeInTheDocument();
});
