import { act, cleanup, render, screen } from "@testing-library/react";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { SSEStatus } from "../../src/client.js";
import { SSEConnection, SSEIndicator } from "../../src/index.js";
import { page } from "./page.js";

afterEach(() => {
  cleanup();
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
});

/** WCAG 2: relative luminance of rgb(r, g, b). */
function luminance(colour: string): number {
  const [r = 0, g = 0, b = 0] = (colour.match(/\d+/g) ?? []).map((part) => {
    const value = Number(part) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a: string, b: string): number {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

describe("the indicator", () => {
  const statuses: SSEStatus[] = ["idle", "connecting", "open", "waiting", "lost", "denied", "revoked"];

  test("says each status in words of its own, in a status region, readable", () => {
    const texts = statuses.map((status) => {
      const { container } = render(<SSEIndicator status={status} onReconnect={() => {}} />);
      const box = container.firstElementChild as HTMLElement;
      const { color, background } = box.style;
      expect(contrast(color, background)).toBeGreaterThan(4.5);
      const dot = box.querySelector<HTMLElement>("[aria-hidden=true]");
      expect(contrast(dot?.style.background ?? "", background)).toBeGreaterThan(3);
      const text = screen.getByRole("status").textContent;
      cleanup();
      return text;
    });
    expect(new Set(texts).size).toBe(statuses.length);
    expect(texts).not.toContain("");
  });

  test("has a button when the connection is lost, and only then", async () => {
    const reconnect = vi.fn();
    for (const status of statuses) {
      render(<SSEIndicator status={status} onReconnect={reconnect} />);
      const button = screen.queryByRole("button", { name: "Reconnect" });
      expect(button !== null).toBe(status === "lost");
      button?.click();
      cleanup();
    }
    expect(reconnect).toHaveBeenCalledOnce();
    render(<SSEIndicator status="lost" />);
    expect(screen.queryByRole("button")).toBeNull();
  });

  test("says which attempt it is, and speaks other languages", () => {
    const labels = { waiting: "Связь потеряна", open: "В сети" };
    const { rerender } = render(<SSEIndicator status="waiting" attempt={3} labels={labels} />);
    expect(screen.getByRole("status").textContent).toBe("Связь потеряна (3)");
    rerender(<SSEIndicator status="open" labels={labels} />);
    expect(screen.getByRole("status").textContent).toBe("В сети");
    rerender(<SSEIndicator status="denied" labels={labels} />);
    expect(screen.getByRole("status").textContent).toBe("Access denied");
  });
});

describe("SSEConnection shows it", () => {
  test.each([
    ["dev", "development", true],
    ["dev", "production", false],
    [undefined, "test", true],
    [true, "production", true],
    [false, "development", false],
  ] as const)("indicator=%s in %s: %s", async (indicator, mode, shown) => {
    vi.stubEnv("NODE_ENV", mode);
    const { props } = page();
    const { indicator: _, ...rest } = props;
    render(<SSEConnection {...rest} {...(indicator === undefined ? {} : { indicator })} />);
    expect(screen.queryByRole("status") !== null).toBe(shown);
  });

  test("not where there is no process, as without a bundler", () => {
    const { props } = page();
    vi.stubGlobal("process", undefined);
    render(<SSEConnection {...props} indicator="dev" />);
    expect(screen.queryByRole("status")).toBeNull();
  });

  test("and its button reconnects", async () => {
    const { props, server, advance } = page();
    server.mode = "down";
    render(<SSEConnection {...props} attempts={0} slowMs={0} indicator labels={{ reconnect: "Подключиться" }} />);
    await advance();
    server.mode = "ok";
    act(() => screen.getByRole("button", { name: "Подключиться" }).click());
    await advance();
    expect(screen.getByRole("status").textContent).toBe("Live");
  });
});
