import { expectTypeOf, test } from "vitest";
import type { EventHandler, NotificationMap } from "../src/index.js";
import type { QueryMap } from "../src/query.js";

declare module "../src/events.js" {
  interface SSEEvents {
    "types.test": { id: number };
  }
}

test("the data of a declared name has its type, in each map and handler; any other is any", () => {
  const handler: EventHandler<"types.test"> = (data) => expectTypeOf(data).toEqualTypeOf<{ id: number }>();
  const queries: QueryMap = {
    "types.test": (data, meta) => {
      expectTypeOf(data).toEqualTypeOf<{ id: number }>();
      expectTypeOf(meta.event).toEqualTypeOf<string>();
      return [["a", data.id]];
    },
    "types.*": (data) => {
      expectTypeOf(data).toBeAny();
      return [["a", data.whatever]];
    },
    other: [["b"]],
  };
  const notifications: NotificationMap = {
    "types.test": (data) => {
      expectTypeOf(data).toEqualTypeOf<{ id: number }>();
      return { title: String(data.id) };
    },
    other: (data) => {
      expectTypeOf(data).toBeAny();
      return null;
    },
  };
  // @ts-expect-error: the event has no such field
  const mistaken: QueryMap = { "types.test": (data) => [["a", data.ID]] };
  void [handler, queries, notifications, mistaken];
});
