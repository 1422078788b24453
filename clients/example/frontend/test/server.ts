import { HttpResponse, http } from "msw";
import { setupServer } from "msw/node";
import { session } from "../src/session";
import type { Estimate, EstimateEvent, EstimateInput, Project, User } from "../src/types";
import { streams } from "./stream";

export const anna: User = user(1, "manager1", "Анна Соколова", "manager");
export const pavel: User = user(2, "manager2", "Павел Орлов", "manager");
export const ivan: User = user(3, "foreman1", "Иван Петров", "foreman");
export const sergey: User = user(4, "foreman2", "Сергей Кузнецов", "foreman");
const users = [anna, pavel, ivan, sergey];

function user(id: number, username: string, name: string, role: User["role"]): User {
  return { id, username, name, role, role_name: role === "manager" ? "Менеджер" : "Прораб" };
}

interface Site {
  projects: Project[];
  estimates: Estimate[];
  /** What was asked for, as "/estimates/1/". */
  reads: string[];
  /** What was written, as "PATCH /estimates/1/ {...}". */
  writes: string[];
  /** Tokens that are not taken any more. */
  revoked: Set<string>;
  /** How much its clock is ahead of the browser's. */
  aheadMs: number;
}

/** The site as it is now; `resetSite` begins anew. */
export const site: Site = {
  projects: [],
  estimates: [],
  reads: [],
  writes: [],
  revoked: new Set(),
  aheadMs: 0,
};

const LONG_AGO = "2026-01-10T09:00:00Z";
let changes = 0;
let newest = 0;

export function resetSite() {
  newest = 0;
  site.projects = [project(1, "Школа № 12"), project(2, "Склад")];
  site.estimates = [
    estimate({ number: "С-1", amount: "1000.50", foreman: 3, creator: 3 }),
    estimate({ number: "С-2", amount: "2000.00", project: 2, status: "Согласована", foreman: 4 }),
    estimate({ number: "С-3", amount: "30.00", project: 1, status: "На согласовании", foreman: 3 }),
  ];
  site.reads = [];
  site.writes = [];
  site.revoked = new Set();
  site.aheadMs = 0;
}

function project(id: number, name: string): Project {
  return { id, name, address: "", estimates_count: 0, created_at: LONG_AGO, updated_at: LONG_AGO };
}

export function estimate(over: Partial<Estimate>): Estimate {
  newest += 1;
  const whole: Estimate = {
    id: newest,
    number: "",
    project: 1,
    project_name: "",
    foreman: null,
    foreman_name: null,
    creator: 1,
    creator_name: null,
    status: "Черновик",
    amount: "0.00",
    comment: "",
    created_at: LONG_AGO,
    updated_at: LONG_AGO,
    ...over,
  };
  return named(whole);
}

function named(one: Estimate): Estimate {
  const nameOf = (id: number | null) => users.find((other) => other.id === id)?.name ?? null;
  changes += 1;
  return {
    ...one,
    project_name: site.projects.find(({ id }) => id === one.project)?.name ?? "",
    foreman_name: nameOf(one.foreman),
    creator_name: nameOf(one.creator),
    updated_at: new Date(Date.UTC(2026, 1, 1, 0, 0, changes)).toISOString(),
  };
}

export function eventOf(one: Estimate, by?: User): EstimateEvent {
  return {
    estimate_id: one.id,
    estimate_number: one.number,
    project_id: one.project,
    project_name: one.project_name,
    foreman_id: one.foreman,
    foreman_name: one.foreman_name,
    creator_id: one.creator,
    creator_name: one.creator_name,
    status: one.status,
    created_at: one.created_at,
    actor_id: by?.id ?? null,
    actor_name: by?.name ?? null,
  };
}

/** What somebody else does, elsewhere: it is done, and the event says so. */
export const elsewhere = {
  create(over: Partial<Estimate>) {
    const one = estimate(over);
    site.estimates.unshift(one);
    streams.send("estimate.created", eventOf(one));
    return one;
  },
  /** Left out `by`, no user did it, but a command, say. */
  update(id: number, over: Partial<Estimate>, by?: User) {
    site.estimates = site.estimates.map((one) => (one.id === id ? named({ ...one, ...over }) : one));
    streams.send("estimate.updated", eventOf(found(id), by));
  },
  remove(id: number, by?: User) {
    const one = found(id);
    site.estimates = site.estimates.filter((other) => other.id !== id);
    streams.send("estimate.deleted", eventOf(one, by));
  },
};

function found(id: number): Estimate {
  const one = site.estimates.find((other) => other.id === id);
  if (!one) throw new Error(`there is no estimate ${id}`);
  return one;
}

function mayRead(request: Request): boolean {
  const token = request.headers.get("Authorization")?.replace("Token ", "");
  return Boolean(token) && !site.revoked.has(token ?? "");
}

const refused = () => HttpResponse.json({ detail: "Недопустимый токен." }, { status: 401 });
const missing = () => HttpResponse.json({ detail: "Не найдено." }, { status: 404 });

/** A foreman's are those assigned to him. */
function visible(): Estimate[] {
  const me = session.get()?.user;
  return site.estimates.filter(({ foreman }) => me?.role === "manager" || foreman === me?.id);
}

/** The fields that the server finds wrong. */
function mistakes(input: EstimateInput): Record<string, string[]> {
  const wrong: Record<string, string[]> = {};
  if (input.amount !== undefined && !(Number(input.amount) >= 0))
    wrong.amount = ["Требуется численное значение."];
  if (input.project === null) wrong.project = ["Это поле не может быть пустым."];
  return wrong;
}

const read = <T>(path: string, answer: (request: Request, id: number) => T | undefined) =>
  http.get(`/api/v1${path}`, ({ request, params }) => {
    if (!mayRead(request)) return refused();
    site.reads.push(new URL(request.url).pathname.replace("/api/v1", ""));
    const found = answer(request, Number(params.id));
    const headers = { Date: new Date(Date.now() + site.aheadMs).toUTCString() };
    return found === undefined ? missing() : HttpResponse.json(found as object, { headers });
  });

export const server = setupServer(
  http.post("/api/v1/login/", async ({ request }) => {
    const { username, password } = (await request.json()) as Record<string, string>;
    const user = users.find((one) => one.username === username);
    if (!user || password !== "secret") {
      return HttpResponse.json({ detail: "Неверное имя или пароль" }, { status: 400 });
    }
    return HttpResponse.json({ token: `token-of-${username}`, user });
  }),
  http.post("/api/v1/logout/", ({ request }) => {
    site.writes.push(`logout ${request.headers.get("Authorization")}`);
    return mayRead(request) ? new HttpResponse(null, { status: 204 }) : refused();
  }),
  read("/me/", () => session.get()?.user),
  read("/users/", () => users.filter(({ role }) => role === "foreman")),
  read("/projects/", () =>
    site.projects.map((one) => ({
      ...one,
      estimates_count: site.estimates.filter(({ project }) => project === one.id).length,
    })),
  ),
  read("/estimates/", (request) => {
    const { searchParams } = new URL(request.url);
    const [project, status] = [searchParams.get("project"), searchParams.get("status")];
    return visible().filter(
      (one) => (!project || one.project === Number(project)) && (!status || one.status === status),
    );
  }),
  read("/estimates/:id/", (_, id) => visible().find((one) => one.id === id)),
  http.post("/api/v1/estimates/", async ({ request }) => {
    const input = (await request.json()) as EstimateInput;
    site.writes.push(`POST /estimates/ ${JSON.stringify(input)}`);
    const wrong = mistakes(input);
    if (Object.keys(wrong).length > 0) return HttpResponse.json(wrong, { status: 400 });
    const one = estimate({ number: "Смета_2026-01-10", creator: session.get()?.user.id ?? null });
    const made = named({ ...one, ...(input as Partial<Estimate>) });
    site.estimates.unshift(made);
    streams.send("estimate.created", eventOf(made));
    return HttpResponse.json(made, { status: 201 });
  }),
  http.patch("/api/v1/estimates/:id/", async ({ request, params }) => {
    const input = (await request.json()) as EstimateInput;
    site.writes.push(`PATCH /estimates/${params.id}/ ${JSON.stringify(input)}`);
    const wrong = mistakes(input);
    if (Object.keys(wrong).length > 0) return HttpResponse.json(wrong, { status: 400 });
    elsewhere.update(Number(params.id), input as Partial<Estimate>);
    return HttpResponse.json(found(Number(params.id)));
  }),
  http.delete("/api/v1/estimates/:id/", ({ params }) => {
    site.writes.push(`DELETE /estimates/${params.id}/`);
    elsewhere.remove(Number(params.id));
    return new HttpResponse(null, { status: 204 });
  }),
  // sse-react asks so why a stream was refused.
  http.head("/api/v1/sse/events/", ({ request }) => {
    const token = new URL(request.url).searchParams.get("token") ?? "";
    return new HttpResponse(null, { status: site.revoked.has(token) ? 401 : 200 });
  }),
);
