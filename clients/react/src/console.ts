import type { EventBus } from "./bus.js";
import type { SSEClient, SSESnapshot } from "./client.js";

/** The data of the site's estimate events. */
export interface TestEstimate {
  estimate_id: number;
  estimate_number: string;
  project_id: number;
  project_name: string;
  foreman_id: number;
  foreman_name: string;
  creator_id: number;
  creator_name: string;
  status: string;
  created_at: string;
}

/** `new SSEDemo()` in the browser's console: shows events as they come. */
export interface Demo {
  startListening(): void;
  stopListening(): void;
  getStatus(): SSESnapshot & { listening: boolean; received: number };
}

/** What is on `window` afterwards. */
export interface ConsoleTools {
  SSEDemo: new () => Demo;
  SSETestUtils: {
    /** Emits `estimate.created` on the bus of this tab, and nowhere else; returns its data. */
    createTestEstimateEvent(over?: Partial<TestEstimate>): TestEstimate;
    /** Emits created, updated and deleted of one estimate. */
    runTestSequence(): TestEstimate;
  };
}

/** Puts `SSEDemo` and `SSETestUtils` on window. The function it returns removes them. */
export function installConsole(bus: EventBus, client?: SSEClient | null): () => void {
  const demos = new Set<Demo>();
  class SSEDemo implements Demo {
    private off: (() => void) | null = null;
    private received = 0;

    startListening(): void {
      demos.add(this);
      this.off ??= bus.on("*", (data, meta) => {
        this.received++;
        console.info("[SSE]", meta.event, data);
      });
      console.info("[SSE] listening");
    }

    stopListening(): void {
      this.off?.();
      this.off = null;
      demos.delete(this);
      console.info("[SSE] stopped listening");
    }

    getStatus() {
      const snapshot = client?.getSnapshot() ?? NO_CLIENT;
      const status = { ...snapshot, listening: this.off !== null, received: this.received };
      console.info("[SSE]", status);
      return status;
    }
  }

  const emit = (event: string, estimate: TestEstimate) => {
    bus.emit(event, estimate, { timestamp: Math.floor(Date.now() / 1000) });
    return estimate;
  };
  const SSETestUtils: ConsoleTools["SSETestUtils"] = {
    createTestEstimateEvent: (over = {}) => emit("estimate.created", { ...testEstimate(), ...over }),
    runTestSequence: () => {
      const estimate = emit("estimate.created", testEstimate());
      emit("estimate.updated", { ...estimate, status: "На согласовании" });
      return emit("estimate.deleted", { ...estimate, status: "На согласовании" });
    },
  };
  const tools: ConsoleTools = { SSEDemo, SSETestUtils };
  Object.assign(globalThis, tools);
  return () => {
    for (const demo of demos) demo.stopListening();
    const window = globalThis as Partial<ConsoleTools>;
    if (window.SSEDemo === SSEDemo) delete window.SSEDemo;
    if (window.SSETestUtils === SSETestUtils) delete window.SSETestUtils;
  };
}

const NO_CLIENT: SSESnapshot = { status: "idle", attempt: 0, lastEventId: null, leader: false, since: 0 };

/** A made-up estimate, with an id that no real one has. */
function testEstimate(): TestEstimate {
  const now = new Date().toISOString();
  return {
    estimate_id: -1 - Math.floor(Math.random() * 1e6),
    estimate_number: `Смета_${now.slice(0, 10)}_Тест`,
    project_id: -1,
    project_name: "Тест",
    foreman_id: -1,
    foreman_name: "Тестовый прораб",
    creator_id: -2,
    creator_name: "Тестовый менеджер",
    status: "Черновик",
    created_at: now,
  };
}
