import { QueryClientProvider, useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Link, Navigate, Route, Routes, useLocation } from "react-router";
import { type IndicatorLabels, SSEConnection, useSSEEvent } from "sse-react";
import { DEBUG, DebugConsole } from "./live/debug";
import { clearFresh } from "./live/fresh";
import { Live } from "./live/live";
import { Me } from "./me";
import { EstimatePage } from "./pages/estimate";
import { EditEstimatePage } from "./pages/estimate-edit";
import { NewEstimatePage } from "./pages/estimate-new";
import { EstimatesPage } from "./pages/estimates";
import { LoginPage } from "./pages/login";
import { ConnectionBanner } from "./parts/banner";
import { Header } from "./parts/header";
import { makeQueryClient, queries } from "./queries";
import { type Session, session as sessions, useSession } from "./session";
import { PageHeading } from "./ui/page";
import { clearToasts, Toasts } from "./ui/toasts";

const REVOKED = "Доступ закрыт: вы вышли на другом устройстве, или его отозвал администратор. Войдите снова.";
const DENIED = "Сервер не принимает ваш ключ доступа. Войдите снова.";

/** Texts of sse-react, which are English by themselves. */
const LABELS: IndicatorLabels = {
  idle: "Не подключено",
  connecting: "Подключаемся…",
  open: "На связи",
  waiting: "Нет связи, пробуем снова",
  lost: "Нет связи",
  denied: "Доступ запрещён",
  revoked: "Доступ отозван",
  reconnect: "Повторить",
};

export function App() {
  const { session } = useSession();
  return (
    <Routes>
      <Route path="/login" element={session ? <AfterLogin /> : <LoginPage />} />
      {/* The key: what one user has loaded is gone before the next one sees anything. */}
      <Route path="*" element={session ? <Site key={session.token} session={session} /> : <ToLogin />} />
    </Routes>
  );
}

function ToLogin() {
  const { left } = useSession();
  const here = useLocation();
  return <Navigate to="/login" replace state={left ? null : { from: here.pathname + here.search }} />;
}

function AfterLogin() {
  const { state } = useLocation() as { state: { from?: string } | null };
  return <Navigate to={state?.from ?? "/"} replace />;
}

/** All that somebody sees who is logged in. */
function Site({ session }: { session: Session }) {
  const [client] = useState(makeQueryClient);
  // What one user was told is not for the next one.
  useEffect(
    () => () => {
      clearToasts();
      clearFresh();
    },
    [],
  );
  return (
    <QueryClientProvider client={client}>
      <Me value={session.user}>
        <SSEConnection
          user={session.user.id}
          token={session.token}
          indicator={true}
          labels={LABELS}
          debug={DEBUG}
        >
          <SessionWatch token={session.token} />
          <Live />
          {DEBUG && <DebugConsole />}
          <a href="#main" className="skip-link">
            К содержанию
          </a>
          <Header />
          <ConnectionBanner />
          <main id="main" className="main">
            <Routes>
              <Route index element={<EstimatesPage />} />
              <Route path="estimates/new" element={<NewEstimatePage />} />
              <Route path="estimates/:id" element={<EstimatePage />} />
              <Route path="estimates/:id/edit" element={<EditEstimatePage />} />
              <Route path="*" element={<NoSuchPage />} />
            </Routes>
          </main>
          <Toasts />
        </SSEConnection>
      </Me>
    </QueryClientProvider>
  );
}

/** Ends the session when the server takes the token back, and learns of a changed name or role. */
function SessionWatch({ token }: { token: string }) {
  useSSEEvent("auth.revoked", () => sessions.end(token, REVOKED));
  useSSEEvent("auth.denied", () => sessions.end(token, DENIED));

  const { data } = useQuery(queries.me);
  useEffect(() => {
    if (data) sessions.update(data);
  }, [data]);
  return null;
}

function NoSuchPage() {
  return (
    <section>
      <PageHeading title="Такой страницы нет" />
      <p>
        <Link to="/">К списку смет</Link>
      </p>
    </section>
  );
}
