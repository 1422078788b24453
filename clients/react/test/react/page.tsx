import { act } from "@testing-library/react";
import { EventBus } from "../../src/bus.js";
import type { SSEConnectionProps } from "../../src/react.js";
import { type Tab, World } from "../world.js";

/** A tab for components, and the props that connect them to it. */
export function page(world = new World(), tab: Tab = world.tab()) {
  const bus = new EventBus();
  const props: SSEConnectionProps = { user: 7, token: "T", bus, environment: tab.environment, indicator: false };
  return {
    world,
    server: world.server,
    tab,
    bus,
    props,
    /** Lets time pass, and React do what it has to. */
    advance: (ms = 0) => act(() => world.advance(ms)),
  };
}
