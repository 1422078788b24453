import { act, screen, waitFor } from "@testing-library/react";
import { HttpResponse, http } from "msw";
import { expect, test } from "vitest";
import { session } from "../src/session";
import { anna, ivan, server, site } from "./server";
import { online, row, visit } from "./site";
import { streams } from "./stream";

async function logIn(user: ReturnType<typeof visit>, name: string, password = "secret") {
  await user.type(screen.getByLabelText("Имя пользователя"), name);
  await user.type(screen.getByLabelText("Пароль"), password);
  await user.click(screen.getByRole("button", { name: "Войти" }));
}

test("who logs in comes to the page he wanted", async () => {
  const user = visit("/estimates/2");
  await logIn(user, "manager1");
  expect(await screen.findByRole("heading", { name: "С-2" })).toBeInTheDocument();
  expect(screen.getByText("Анна Соколова", { selector: "header *" })).toBeInTheDocument();
  expect(screen.getByText("Менеджер")).toBeInTheDocument();
});

test("a wrong password is said in the server's words", async () => {
  const user = visit("/");
  await logIn(user, "manager1", "wrong");
  expect(await screen.findByRole("alert")).toHaveTextContent("Неверное имя или пароль");
});

test("who tries too often is told to wait, whoever says so", async () => {
  // This is nginx, which knows no JSON.
  server.use(http.post("/api/v1/login/", () => HttpResponse.text("<html>", { status: 429 })));
  const user = visit("/");
  await logIn(user, "manager1", "wrong");
  expect(await screen.findByRole("alert")).toHaveTextContent("Слишком много попыток. Подождите минуту");
});

test("logging out ends the session here and on the server, and the stream", async () => {
  const user = visit("/", anna);
  await online();
  await user.click(screen.getByRole("button", { name: "Выйти" }));
  expect(await screen.findByRole("heading", { name: "Вход" })).toBeInTheDocument();
  expect(localStorage.getItem("smeta-session")).toBeNull();
  expect(streams.count()).toBe(0);
  await waitFor(() => expect(site.writes).toEqual(["logout Token token-of-manager1"]));
});

test("a logout that the server did not hear of is said", async () => {
  server.use(http.post("/api/v1/logout/", () => HttpResponse.error()));
  const user = visit("/", anna);
  await online();
  await user.click(screen.getByRole("button", { name: "Выйти" }));
  expect(await screen.findByText(/ключ доступа ещё действует/)).toBeInTheDocument();
});

/** What the browser says in all tabs but the one that did it. */
function storedElsewhere(value: string | null) {
  if (value === null) localStorage.removeItem("smeta-session");
  else localStorage.setItem("smeta-session", value);
  act(() => {
    window.dispatchEvent(new StorageEvent("storage", { key: "smeta-session", newValue: value }));
  });
}

test("a logout in another tab is one here", async () => {
  visit("/", anna);
  await online();
  storedElsewhere(null);
  expect(await screen.findByText("Сеанс завершён в другой вкладке. Войдите снова.")).toBeInTheDocument();
  expect(streams.count()).toBe(0);
});

test("a login of somebody else in another tab is one here, and nothing of the first one's is shown", async () => {
  visit("/", anna);
  await row("С-2");
  storedElsewhere(JSON.stringify({ token: "token-of-foreman1", user: ivan }));
  expect(await screen.findByText("Иван Петров", { selector: "header *" })).toBeInTheDocument();
  expect(screen.queryByRole("link", { name: "С-2" })).not.toBeInTheDocument();
  await row("С-1");
});

test("a session that the server takes back leads to the login page, which says why", async () => {
  visit("/", anna);
  await online();
  streams.send("auth.revoked");
  expect(await screen.findByText(/Доступ закрыт/)).toBeInTheDocument();
  expect(session.get()).toBeNull();
});

test("a token that sse does not take leads to the login page", async () => {
  visit("/", anna);
  await online();
  site.revoked.add("token-of-manager1");
  streams.break(2);
  expect(await screen.findByText(/Сервер не принимает ваш ключ доступа/)).toBeInTheDocument();
});

test("a token that the API does not take leads to the login page", async () => {
  site.revoked.add("token-of-manager1");
  visit("/", anna);
  expect(await screen.findByText(/Сеанс закончился/)).toBeInTheDocument();
});
