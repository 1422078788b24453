import { act, cleanup, render, screen } from "@testing-library/react";
import { StrictMode, version } from "react";
import { hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { afterEach, describe, expect, test, vi } from "vitest";
import { eventBus } from "../../src/bus.js";
import {
  SSEConnection,
  type SSEConnectionProps,
  type SSEOptions,
  useSSE,
  useSSEBus,
  useSSEClient,
  useSSEEvent,
  useSSEStatus,
} from "../../src/index.js";
import { page } from "./page.js";

afterEach(cleanup);

function Status() {
  return <p>status: {useSSEStatus()}</p>;
}

test(`these tests run on the React that they say`, ({ task }) => {
  expect(`react ${version.split(".")[0]}`).toBe(task.file.projectName);
});

describe("SSEConnection", () => {
  test("connects when a user logs in, and ends it when the user logs out", async () => {
    const { props, server, advance } = page();
    const show = (over: Partial<SSEConnectionProps>) => (
      <SSEConnection {...props} {...over}>
        <Status />
      </SSEConnection>
    );
    const { rerender } = render(show({ user: null, token: null }));
    await advance(1000);
    expect(server.sources).toHaveLength(0);
    expect(screen.getByText("status: idle")).toBeTruthy();
    for (const over of [{ user: "" }, { token: "" }, { user: undefined }, { token: undefined }]) rerender(show(over));
    await advance(1000);
    expect(server.sources).toHaveLength(0);
    rerender(show({}));
    await advance();
    expect(screen.getByText("status: open")).toBeTruthy();
    rerender(show({ token: null }));
    await advance();
    expect(screen.getByText("status: idle")).toBeTruthy();
    expect(server.open).toHaveLength(0);
  });

  test("user 0 is a user", async () => {
    const { props, server, advance } = page();
    render(<SSEConnection {...props} user={0} />);
    await advance();
    expect(server.open).toHaveLength(1);
  });

  test("under StrictMode opens one stream", async () => {
    const { props, server, advance } = page();
    const { unmount } = render(
      <StrictMode>
        <SSEConnection {...props}>
          <Status />
        </SSEConnection>
      </StrictMode>,
    );
    await advance(1000);
    expect(server.sources).toHaveLength(1);
    expect(screen.getByText("status: open")).toBeTruthy();
    unmount();
    await advance();
    expect(server.open).toHaveLength(0);
  });

  test("renders again, with new objects of the same options, without a new stream", async () => {
    const { props, server, advance } = page();
    const { rerender } = render(<SSEConnection {...props} token={() => "one"} />);
    await advance();
    rerender(<SSEConnection {...props} token={() => "two"} labels={{ open: "On" }} />);
    await advance(1000);
    expect(server.sources.map(({ token }) => token)).toEqual(["one"]);
    server.break();
    await advance(3000);
    expect(server.sources.map(({ token }) => token)).toEqual(["one", "two"]);
  });

  test("connects anew, and resumes, with a new token string; begins anew with another user", async () => {
    const { props, server, advance } = page();
    const { rerender } = render(<SSEConnection {...props} />);
    await advance();
    const id = server.publish("a", 1);
    await advance();
    rerender(<SSEConnection {...props} token="U" />);
    await advance();
    expect(server.open.map(({ token, from }) => ({ token, from }))).toEqual([{ token: "U", from: id }]);
    rerender(<SSEConnection {...props} token="U" user={8} />);
    await advance();
    expect(server.open.map(({ token, from }) => ({ token, from }))).toEqual([{ token: "U", from: null }]);
  });

  test("a function instead of a string, and the other way round, is taken", async () => {
    const { props, server, advance } = page();
    const { rerender } = render(<SSEConnection {...props} token="one" />);
    await advance();
    rerender(<SSEConnection {...props} token={async () => "two"} />);
    server.break();
    await advance(3000);
    rerender(<SSEConnection {...props} token="three" />);
    await advance();
    expect(server.sources.map(({ token }) => token)).toEqual(["one", "two", "three"]);
  });

  test("hydrates what a server rendered without a warning", async () => {
    const { props, advance } = page();
    const error = vi.spyOn(console, "error").mockImplementation(() => {});
    const app = (
      <StrictMode>
        <SSEConnection {...props} indicator>
          <Status />
        </SSEConnection>
      </StrictMode>
    );
    const container = document.createElement("div");
    document.body.append(container);
    container.innerHTML = renderToString(app);
    expect(container.textContent).toContain("status: idle");
    const root = await act(async () => hydrateRoot(container, app));
    await advance();
    expect(container.textContent).toContain("status: open");
    expect(error).not.toHaveBeenCalled();
    act(() => root.unmount());
    container.remove();
    error.mockRestore();
  });
});

describe("useSSE", () => {
  test("says all about the connection, and can reconnect", async () => {
    const { props, server, tab, bus, advance } = page();
    let sse: ReturnType<typeof useSSE> | undefined;
    const Inside = () => {
      sse = useSSE();
      return null;
    };
    render(
      <SSEConnection {...props}>
        <Inside />
      </SSEConnection>,
    );
    expect(sse).toMatchObject({ status: "idle", connected: false });
    await advance();
    const lastEventId = server.publish("a", 1);
    await advance();
    expect(sse).toMatchObject({ status: "open", connected: true, attempt: 0, lastEventId, leader: true, bus });
    act(() => sse?.reconnect());
    await advance();
    expect(server.sources).toHaveLength(2);
    expect(tab.streams).toHaveLength(1);
  });

  test("with options opens a connection of its own", async () => {
    const { props, server, advance } = page();
    const { indicator: _, ...options } = props;
    const Own = ({ user }: { user: number | null }) => {
      const { status, bus, reconnect } = useSSE({ ...options, user });
      return <button type="button" onClick={reconnect}>{`${status} ${bus === props.bus}`}</button>;
    };
    const { rerender } = render(<Own user={7} />);
    await advance();
    act(() => screen.getByText("open true").click());
    await advance();
    expect(server.sources).toHaveLength(2);
    rerender(<Own user={null} />);
    await advance();
    act(() => screen.getByText("idle true").click());
    expect(server.open).toHaveLength(0);
  });

  test("without options and without an SSEConnection is a mistake, and says so", () => {
    const error = vi.spyOn(console, "error").mockImplementation(() => {});
    const Outside = () => <>{useSSE().status}</>;
    expect(() => render(<Outside />)).toThrow("no <SSEConnection> above");
    error.mockRestore();
  });
});

describe("several components with the same options", () => {
  function setup() {
    const { props, ...rest } = page();
    const { indicator: _, ...options } = props;
    const heard: unknown[] = [];
    rest.bus.on("a", (data) => heard.push(data));
    const Own = ({ name, ...over }: { name: string } & Partial<SSEOptions>) => {
      const { status, lastEventId } = useSSE({ ...options, ...over });
      return <p>{`${name}: ${status} ${lastEventId}`}</p>;
    };
    return { ...rest, heard, Own };
  }

  test("have one connection, until the last of them goes", async () => {
    const { Own, server, heard, advance } = setup();
    const { rerender, unmount } = render([<Own key={1} name="one" />, <Own key={2} name="two" />]);
    await advance();
    const id = server.publish("a", 1);
    await advance();
    expect(heard).toEqual([1]);
    expect(server.sources).toHaveLength(1);
    for (const name of ["one", "two"]) expect(screen.getByText(`${name}: open ${id}`)).toBeTruthy();
    rerender([<Own key={2} name="two" />, <Own key={3} name="three" />]);
    await advance();
    expect(server.sources).toHaveLength(1);
    expect(screen.getByText(`three: open ${id}`)).toBeTruthy();
    unmount();
    await advance();
    expect(server.open).toHaveLength(0);
  });

  test("ask the newest of those that are there for a token", async () => {
    const { Own, server, advance } = setup();
    const { rerender } = render([
      <Own key={1} name="one" token={() => "one"} />,
      <Own key={2} name="two" token={() => "two"} />,
    ]);
    await advance();
    rerender([<Own key={1} name="one" token={() => "one"} />]);
    await advance();
    server.break();
    await advance(3000);
    expect(server.sources.map(({ token }) => token)).toEqual(["two", "one"]);
  });

  test("and those with others have one of their own", async () => {
    const { Own, server, advance } = setup();
    render([<Own key={1} name="one" />, <Own key={2} name="two" user={8} />]);
    await advance();
    expect(server.open).toHaveLength(2);
  });
});

test("useSSEEvent hears what useSSE(options) brings to the same bus, in the same component", async () => {
  const { props, server, bus, advance } = page();
  const { indicator: _, ...options } = props;
  const heard: unknown[] = [];
  const Own = () => {
    useSSE(options);
    useSSEEvent("a", (data) => heard.push(data), bus);
    return null;
  };
  render(<Own />);
  await advance();
  server.publish("a", 1);
  await advance();
  expect(heard).toEqual([1]);
});

test("useSSEStatus renders again when the status changes, not on every event", async () => {
  const { props, server, advance } = page();
  const rendered: string[] = [];
  const Inside = () => {
    rendered.push(useSSEStatus());
    return null;
  };
  render(
    <SSEConnection {...props}>
      <Inside />
    </SSEConnection>,
  );
  await advance();
  for (let n = 0; n < 5; n++) {
    server.publish("a", n);
    await advance();
  }
  expect(rendered.at(-1)).toBe("open");
  expect(new Set(rendered).size).toBe(rendered.length);
});

describe("useSSEEvent", () => {
  test("calls the handler of the last render, and listens once", async () => {
    const { props, bus, server, advance } = page();
    const on = vi.spyOn(bus, "on");
    const heard: string[] = [];
    const Inside = ({ name }: { name: string }) => {
      useSSEEvent("estimate.*", (data, { event }) => heard.push(`${name} ${event} ${data}`));
      return null;
    };
    const show = (name: string) => (
      <SSEConnection {...props}>
        <Inside name={name} />
      </SSEConnection>
    );
    const { rerender, unmount } = render(show("first"));
    await advance();
    rerender(show("second"));
    server.publish("estimate.created", 1);
    server.publish("project.created", 2);
    await advance();
    expect(heard).toEqual(["second estimate.created 1"]);
    expect(on).toHaveBeenCalledOnce();
    unmount();
    bus.emit("estimate.created", 3);
    expect(heard).toHaveLength(1);
  });

  test("takes several names, in a new array on each render", () => {
    const { props, bus } = page();
    const on = vi.spyOn(bus, "on");
    const heard: unknown[] = [];
    const Inside = ({ names }: { names: string[] }) => {
      useSSEEvent(names, (data) => heard.push(data));
      return null;
    };
    const show = (names: string[]) => (
      <SSEConnection {...props}>
        <Inside names={names} />
      </SSEConnection>
    );
    const { rerender } = render(show(["a", "b", "a"]));
    rerender(show(["a", "b", "a"]));
    expect(on).toHaveBeenCalledTimes(2);
    bus.emit("a", 1);
    bus.emit("b", 2);
    rerender(show([]));
    bus.emit("a", 3);
    expect(heard).toEqual([1, 2]);
  });

  test("without an SSEConnection listens to eventBus", () => {
    const heard = vi.fn();
    const Outside = () => {
      useSSEEvent("a", heard);
      return <>{`${useSSEStatus()} ${useSSEClient()} ${useSSEBus() === eventBus}`}</>;
    };
    const { container } = render(<Outside />);
    eventBus.emit("a", 1);
    expect(heard).toHaveBeenCalledWith(1, { event: "a" });
    expect(container.textContent).toBe("idle null true");
  });
});

test("useSSEClient is the client of the SSEConnection above", async () => {
  const { props, advance } = page();
  let client: ReturnType<typeof useSSEClient> = null;
  const Inside = () => {
    client = useSSEClient();
    return null;
  };
  render(
    <SSEConnection {...props}>
      <Inside />
    </SSEConnection>,
  );
  await advance();
  expect(client).toMatchObject({ bus: props.bus });
});
