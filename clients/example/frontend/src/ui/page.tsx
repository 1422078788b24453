import { type ReactNode, useEffect, useRef, useState } from "react";
import { useLocation } from "react-router";

/**
 * A page's title and main heading. Whoever comes from another page finds the focus on the heading, as after a
 * load; on the first one it stays where the browser put it, and a filter that changes the address leaves it, too.
 */
export function PageHeading({ title, children }: { title: string; children?: ReactNode }) {
  const heading = useRef<HTMLHeadingElement>(null);
  const { key } = useLocation();
  const [cameFromAnother] = useState(key !== "default");

  useEffect(() => {
    if (cameFromAnother) heading.current?.focus();
  }, [cameFromAnother]);

  return (
    <>
      <title>{`${title} · Сметы`}</title>
      <h1 ref={heading} tabIndex={-1}>
        {children ?? title}
      </h1>
    </>
  );
}

export function Loading() {
  return (
    <p className="quiet" role="status">
      Загружаем…
    </p>
  );
}

export function LoadError({ error, retry }: { error: Error; retry: () => void }) {
  return (
    <div className="notice warning" role="alert">
      <p>{error.message}</p>
      <button type="button" className="button" onClick={retry}>
        Повторить
      </button>
    </div>
  );
}
