import { Link } from "react-router";
import { api } from "../api";
import { useMe } from "../me";
import { session } from "../session";
import { Notifications } from "./notifications";

const STILL_OPEN =
  "Вы вышли здесь, но сервер не ответил: ключ доступа ещё действует. Чтобы закрыть его, войдите и выйдите снова.";

/** Here at once, in the other tabs with it; then on the server. */
async function logOut() {
  const token = session.get()?.token;
  if (!token) return;
  session.end(token);
  await api.logout(token).catch((error: { status?: number }) => {
    if (error.status !== 401) session.explain(STILL_OPEN);
  });
}

export function Header() {
  const me = useMe();
  return (
    <header className="header">
      <Link to="/" className="brand">
        <img src="/favicon.svg" alt="" width="26" height="26" />
        <span>Сметы</span>
      </Link>
      <p className="who">
        <span className="who-name">{me.name}</span>
        <span className="who-role">{me.role_name}</span>
      </p>
      <Notifications />
      <button type="button" className="button quiet-button" onClick={() => void logOut()}>
        Выйти
      </button>
    </header>
  );
}
