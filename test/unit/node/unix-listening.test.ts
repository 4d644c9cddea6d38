import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { callUnix, listenUnix } from "../../../shared/node/unix-http.ts";

test("a server to which the kernel cannot give connections for a while ends nobody, and serves on", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ovt-listening-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "agent.sock");
  const server = createServer((_request, response) => response.end("{}"));
  await listenUnix(server, path);
  onTestFinished(() => void server.close());
  // As node:net says of accept(2).
  const refused = Object.assign(new Error("accept ENOMEM"), { code: "ENOMEM", syscall: "accept" });
  for (let i = 0; i < 2; i++) expect(() => server.emit("error", refused)).not.toThrow();
  expect(await callUnix(path, "GET", "/")).toEqual({});
});
