// The whole system, as `make demo` starts it: nginx with the configuration of deploy/, sse, Django.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";

const EXAMPLE = join(import.meta.dirname, "..", "..");
const PYTHON = join(EXAMPLE, "..", "..", "build", "demo-venv", "bin", "python");
const FRONTEND = join(EXAMPLE, "frontend");
const LOOK_MS = 50;

const run = promisify(execFile);

/** What the demo writes into its --ready-file. */
export interface Ready {
  url: string;
  sse_pid: number;
  pids: { demo: number; sse: number; django: number; nginx: number };
  dir: string;
  audit_log: string;
  sse_socket: string;
  password: string;
}

export type Role = "manager" | "foreman";

export interface Person {
  id: number;
  username: string;
  /** As the pages show it. */
  name: string;
  role: Role;
  /** What the API takes from him. */
  token: string;
}

export interface Estimate {
  id: number;
  number: string;
  project: number;
  foreman: number | null;
  status: string;
  amount: string;
  comment: string;
}

/** A site that runs, from wherever one looks at it. */
export class Site {
  readonly ready: Ready;

  constructor(ready: Ready) {
    this.ready = ready;
  }

  /** Where a page is. */
  at(path: string): string {
    return new URL(path, this.ready.url).href;
  }

  /**
   * Asks the API as this person, from no browser.
   * @param path below /api/v1/
   * @throws {Error} the answer, if it is an error
   */
  async api<T>(who: Person, method: string, path: string, body?: unknown): Promise<T> {
    const answer = await fetch(this.at(`/api/v1/${path}`), {
      method,
      headers: { Authorization: `Token ${who.token}`, "Content-Type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return (text ? JSON.parse(text) : undefined) as T;
  }

  /** Creates an estimate in the first project. */
  async estimate(who: Person, fields: Partial<Estimate> = {}): Promise<Estimate> {
    const [project] = await this.api<{ id: number }[]>(who, "GET", "projects/");
    return this.api(who, "POST", "estimates/", { project: project?.id, number: unique("С"), ...fields });
  }

  /** How many streams a person has at sse. Somebody has to ask whose token is good. */
  async streams(of: Person, asked: Person): Promise<number> {
    const { users } = await this.api<{ users: Record<string, number> }>(asked, "GET", "sse/stats/");
    return users[String(of.id)] ?? 0;
  }

  /** Runs a text in `manage.py shell` with what gunicorn's environment has, and returns what it prints. */
  async shell(text: string): Promise<string> {
    const { dir, audit_log, sse_socket, url } = this.ready;
    const env = {
      ...process.env,
      SITE_STATE: dir,
      SITE_AUDIT_LOG: audit_log,
      SSE_SOCKET: sse_socket,
      SSE_URL: `${url}api/v1/sse`,
    };
    const words = ["manage.py", "shell", "--no-imports", "--command", text];
    return (await run(PYTHON, words, { cwd: join(EXAMPLE, "backend"), env })).stdout;
  }

  /** Makes people whom no other test knows: so many managers, and as many foremen. */
  async hire(each: number): Promise<Person[]> {
    const made = await this.shell(`
import json
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from rest_framework.authtoken.models import Token
from api.models import User
password = make_password(${JSON.stringify(this.ready.password)})
people = []
for role, first, last in (("manager", "Анна", "Соколова"), ("foreman", "Иван", "Петров")):
    for n in range(${each}):
        tag = f"${unique("p")}-{n}"
        user = User.objects.create(username=f"{role}-{tag}", first_name=first, last_name=f"{last} {tag}", password=password)
        user.groups.add(Group.objects.get(name=role))
        token = Token.objects.create(user=user).key
        people.append(dict(id=user.pk, username=user.username, name=user.get_full_name(), role=role, token=token))
print(json.dumps(people))
`);
    return JSON.parse(made) as Person[];
  }
}

/** A site that this process has started, and may do everything to. */
export class OwnSite extends Site {
  private readonly place: string;
  private readonly demo: ChildProcess;
  private lastPid: number;

  private constructor(place: string, demo: ChildProcess) {
    const ready = readReady(place);
    super(ready);
    this.place = place;
    this.demo = demo;
    this.lastPid = ready.sse_pid;
  }

  /**
   * Starts a demo in a directory and on a port of its own; it installs and builds what is missing.
   * @param dist a page that is built already
   */
  static async start(dist?: string): Promise<OwnSite> {
    const place = mkdtempSync(join(tmpdir(), "e2e-"));
    const log = openSync(join(place, "demo.log"), "w");
    const options = ["--dir", join(place, "state"), "--port", "0", "--ready-file", join(place, "ready.json")];
    const words = [join(EXAMPLE, "demo"), ...options, ...(dist ? ["--dist", dist] : [])];
    // In a session of its own: Ctrl-C must not end it before the tests are at their end.
    const demo = spawn("/usr/bin/python3", words, { stdio: ["ignore", log, log], detached: true });
    closeSync(log);
    const kill = () => demo.kill("SIGTERM");
    process.once("exit", kill); // when nobody comes to stop it
    demo.once("exit", () => process.off("exit", kill));
    try {
      while (!existsSync(join(place, "ready.json"))) {
        mustRun(demo, place);
        await pause(LOOK_MS);
      }
    } catch (error) {
      rmSync(place, { recursive: true });
      throw error;
    }
    return new OwnSite(place, demo);
  }

  /** Restarts sse in good order, as `systemctl restart` does. */
  async restartSse(): Promise<void> {
    this.demo.kill("SIGHUP");
    await this.sseIsAnother();
  }

  /** Kills sse, and does something before it is started again. */
  async withoutSse<T>(what: () => Promise<T>): Promise<T> {
    this.demo.kill("SIGSTOP"); // the demo would start it again at once
    try {
      process.kill(this.lastPid, "SIGKILL");
      return await what();
    } finally {
      this.demo.kill("SIGCONT");
      await this.sseIsAnother();
    }
  }

  async stop(): Promise<void> {
    if (this.demo.exitCode === null) {
      const ended = new Promise((resolve) => this.demo.once("exit", resolve));
      this.demo.kill("SIGTERM");
      await ended;
    }
    rmSync(this.place, { recursive: true, force: true });
  }

  private async sseIsAnother(): Promise<void> {
    for (;;) {
      mustRun(this.demo, this.place);
      if (readReady(this.place).sse_pid !== this.lastPid) break;
      await pause(LOOK_MS);
    }
    this.lastPid = readReady(this.place).sse_pid;
  }
}

/** @throws {Error} with its last words, if the demo has ended */
function mustRun(demo: ChildProcess, place: string): void {
  if (demo.exitCode === null && demo.signalCode === null) return;
  throw new Error(`the demo has ended:\n${readFileSync(join(place, "demo.log"), "utf8")}`);
}

function readReady(place: string): Ready {
  return JSON.parse(readFileSync(join(place, "ready.json"), "utf8")) as Ready;
}

/** Builds the page for development, where React mounts everything twice, and returns where it is. */
export async function buildForDevelopment(): Promise<string> {
  const dist = mkdtempSync(join(tmpdir(), "e2e-dist-"));
  const words = ["build", "--mode", "development", "--outDir", dist, "--emptyOutDir", "--logLevel", "error"];
  const env = { ...process.env, NODE_ENV: "development" };
  await run(join(FRONTEND, "node_modules", ".bin", "vite"), words, { cwd: FRONTEND, env });
  return dist;
}

/** A name that nobody else has. */
export function unique(prefix: string): string {
  return `${prefix}-${randomBytes(4).toString("hex")}`;
}
