import { useState } from "react";
import { useSSEClient, useSSEStatus } from "sse-react";

/** Says that what is shown may be old, for as long as the connection is lost. */
export function ConnectionBanner() {
  const status = useSSEStatus();
  const client = useSSEClient();

  // While it is being tried, it is still what it was: lost, or not yet there on a page that has just been opened.
  const [lost, setLost] = useState(false);
  const now = status === "connecting" ? lost : status === "waiting" || status === "lost";
  if (now !== lost) setLost(now);

  return (
    <div role="alert" className={now ? "banner" : undefined}>
      {now && (
        <>
          <p>
            <strong>Связь с сервером потеряна.</strong>{" "}
            {status === "lost" ? "Изменения других сейчас не видны." : "Пробуем подключиться снова…"}
          </p>
          <button type="button" className="button small" onClick={() => client?.reconnect()}>
            Подключиться
          </button>
        </>
      )}
    </div>
  );
}
