import { useMutation } from "@tanstack/react-query";
import type { FormEvent } from "react";
import { ApiError, api } from "../api";
import { session, useSession } from "../session";
import { FormError } from "../ui/dialog";
import { Field } from "../ui/field";

export function LoginPage() {
  const { notice } = useSession();
  const login = useMutation({
    mutationFn: ({ username, password }: { username: string; password: string }) =>
      api.login(username, password),
    onSuccess: (answer) => session.start(answer),
  });
  const fields = login.error instanceof ApiError ? login.error.fields : {};

  function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const data = new FormData(event.currentTarget);
    login.mutate({ username: String(data.get("username")).trim(), password: String(data.get("password")) });
  }

  return (
    <main className="login">
      <title>Вход · Сметы</title>
      <p className="brand">
        <img src="/favicon.svg" alt="" width="32" height="32" />
        Сметы
      </p>
      <form className="card" onSubmit={submit} noValidate>
        <h1>Вход</h1>
        <p className="quiet">Сметы и проекты видны всем сразу, как только меняются.</p>
        {notice && !login.error && (
          <p className="notice" role="status">
            {notice}
          </p>
        )}
        {login.error && <FormError>{login.error.message}</FormError>}
        <Field label="Имя пользователя" error={fields.username}>
          {(control) => (
            <input {...control} name="username" autoComplete="username" autoCapitalize="none" required />
          )}
        </Field>
        <Field label="Пароль" error={fields.password}>
          {(control) => (
            <input {...control} name="password" type="password" autoComplete="current-password" required />
          )}
        </Field>
        <button type="submit" className="button primary" disabled={login.isPending}>
          {login.isPending ? "Входим…" : "Войти"}
        </button>
      </form>
    </main>
  );
}
