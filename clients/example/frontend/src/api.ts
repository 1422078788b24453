import { setClock } from "./live/clock";
import { session } from "./session";
import type { Estimate, EstimateInput, Project, ProjectInput, User } from "./types";

/** An answer other than 2xx, or none. */
export class ApiError extends Error {
  override name = "ApiError";
  /** 0 if there was no answer. */
  readonly status: number;
  /** What the server says of single fields. */
  readonly fields: Readonly<Record<string, string>>;

  constructor(status: number, message: string, fields: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.fields = fields;
  }
}

const OFFLINE = "Нет связи с сервером. Проверьте сеть и повторите.";
const TOO_MANY = "Слишком много попыток. Подождите минуту и повторите.";
const EXPIRED = "Сеанс закончился: сервер больше не принимает ваш ключ доступа. Войдите снова.";

/** Reads the errors of DRF: {"detail": "..."} or {"field": ["...", ...]}. */
async function errorOf(response: Response): Promise<ApiError> {
  const body: unknown = await response.json().catch(() => null);
  const fields: Record<string, string> = {};
  for (const [name, said] of Object.entries(body && typeof body === "object" ? body : {})) {
    fields[name] = Array.isArray(said) ? said.join(" ") : String(said);
  }
  const { detail, non_field_errors, ...rest } = fields;
  if (response.status === 429) return new ApiError(429, TOO_MANY);
  const fallback =
    response.status >= 500
      ? "На сервере ошибка. Попробуйте ещё раз чуть позже."
      : Object.keys(rest).length > 0
        ? "Исправьте отмеченные поля."
        : `Сервер ответил: ${response.status}.`;
  return new ApiError(response.status, detail ?? non_field_errors ?? fallback, rest);
}

interface Options {
  method?: "GET" | "POST" | "PATCH" | "DELETE";
  body?: unknown;
  token?: string | undefined;
  signal?: AbortSignal;
}

/**
 * Asks the API.
 * @throws {ApiError} with a message for the user. A 401 ends the session besides.
 */
async function request<T>(path: string, options: Options = {}): Promise<T> {
  const { method = "GET", body, token = session.get()?.token, signal } = options;
  const headers = new Headers({ Accept: "application/json" });
  if (token) headers.set("Authorization", `Token ${token}`);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const init: RequestInit = { method, headers };
  if (body !== undefined) init.body = JSON.stringify(body);
  if (signal) init.signal = signal;

  const response = await fetch(`/api/v1${path}`, init).catch((error: unknown) => {
    throw signal?.aborted ? error : new ApiError(0, OFFLINE);
  });
  setClock(response);
  if (response.status === 401 && token) session.end(token, EXPIRED);
  if (!response.ok) throw await errorOf(response);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export interface EstimateFilter {
  project?: number;
  status?: string;
}

function query(filter: EstimateFilter): string {
  const params = new URLSearchParams();
  if (filter.project) params.set("project", String(filter.project));
  if (filter.status) params.set("status", filter.status);
  return params.size > 0 ? `?${params}` : "";
}

export const api = {
  /** Without a token: an old one that is refused must not keep anybody from logging in. */
  login: (username: string, password: string) =>
    request<{ token: string; user: User }>("/login/", {
      method: "POST",
      body: { username, password },
      token: "",
    }),
  logout: (token: string) => request<void>("/logout/", { method: "POST", token }),
  me: (signal: AbortSignal) => request<User>("/me/", { signal }),
  foremen: (signal: AbortSignal) => request<User[]>("/users/?role=foreman", { signal }),

  projects: (signal: AbortSignal) => request<Project[]>("/projects/", { signal }),
  createProject: (body: ProjectInput) => request<Project>("/projects/", { method: "POST", body }),
  updateProject: (id: number, body: ProjectInput) =>
    request<Project>(`/projects/${id}/`, { method: "PATCH", body }),

  estimates: (filter: EstimateFilter, signal: AbortSignal) =>
    request<Estimate[]>(`/estimates/${query(filter)}`, { signal }),
  estimate: (id: number, signal: AbortSignal) => request<Estimate>(`/estimates/${id}/`, { signal }),
  createEstimate: (body: EstimateInput) => request<Estimate>("/estimates/", { method: "POST", body }),
  updateEstimate: (id: number, body: EstimateInput) =>
    request<Estimate>(`/estimates/${id}/`, { method: "PATCH", body }),
  deleteEstimate: (id: number) => request<void>(`/estimates/${id}/`, { method: "DELETE" }),
};
