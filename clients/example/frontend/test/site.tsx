import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { StrictMode } from "react";
import { MemoryRouter } from "react-router";
import { App } from "../src/app";
import { session } from "../src/session";
import type { User } from "../src/types";

/** The site at this address, as somebody who is logged in sees it, or nobody. */
export function visit(path: string, user?: User) {
  if (user) session.start({ token: `token-of-${user.username}`, user });
  render(
    <StrictMode>
      <QueryClientProvider client={new QueryClient()}>
        <MemoryRouter initialEntries={[path]}>
          <App />
        </MemoryRouter>
      </QueryClientProvider>
    </StrictMode>,
  );
  return userEvent.setup();
}

/** Waits until events can come, and what is shown is up to date. */
export const online = () => screen.findByText("На связи");

/** The row of an estimate; it may still be on its way. */
export const row = (number: string) => screen.findByRole("row", { name: new RegExp(number) });

/** The messages in the corner, one below the other. */
export const messages = () => screen.getByRole("region", { name: "Сообщения" });
