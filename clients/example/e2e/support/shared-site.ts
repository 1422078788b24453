// The site of all tests that do no harm to it; the others start one of their own.

import type { TestProject } from "vitest/node";
import { OwnSite, type Ready } from "./site.ts";

declare module "vitest" {
  export interface ProvidedContext {
    site: Ready;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const site = await OwnSite.start();
  project.provide("site", site.ready);
  return () => site.stop();
}
