import type { ReactNode } from "react";

function Icon({ children }: { children: ReactNode }) {
  return (
    <svg className="icon" viewBox="0 0 20 20" aria-hidden="true">
      {children}
    </svg>
  );
}

export const Close = () => (
  <Icon>
    <path d="M5 5l10 10M15 5L5 15" />
  </Icon>
);

export const Plus = () => (
  <Icon>
    <path d="M10 4v12M4 10h12" />
  </Icon>
);

export const Pencil = () => (
  <Icon>
    <path d="M12.5 4.5l3 3L7 16l-3.5.5L4 13z" />
  </Icon>
);

export const Bell = () => (
  <Icon>
    <path d="M5 13.5V9a5 5 0 0110 0v4.5l1.2 1.5H3.8zM8.5 17h3" />
  </Icon>
);

export const Back = () => (
  <Icon>
    <path d="M8.5 4.5L3.5 10l5 5.5M4 10h12.500" />
  </Icon>
);

export const Chevron = () => (
  <Icon>
    <path d="M5 7.500l5 5 5-5" />
  </Icon>
);
