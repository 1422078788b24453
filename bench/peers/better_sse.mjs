// Node with better-sse: one channel, each stream a session of it. Usage: node better_sse.mjs PORT
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const require = createRequire(resolve("build/bench/node/package.json"));
const { createChannel, createSession } = require("better-sse");
const channel = createChannel();

async function body(request) {
  let text = "";
  for await (const part of request) text += part;
  return text;
}

async function events(request, response) {
  const session = await createSession(request, response, { keepAlive: 30000 });
  channel.register(session);
  session.push({ event: "connected", message: "SSE connection established" });
}

async function publish(request, response) {
  const { event, data } = JSON.parse(await body(request));
  channel.broadcast({ event, data, timestamp: Math.floor(Date.now() / 1000) });
  response.setHeader("Content-Type", "application/json").end("{}");
}

const server = createServer((request, response) =>
  request.url.startsWith("/events/") ? events(request, response) : publish(request, response),
);
server.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
