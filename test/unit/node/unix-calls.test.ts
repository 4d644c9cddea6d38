import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { callUnix } from "../../../shared/node/unix-http.ts";

test("each call has a connection of its own: the server may end one that is idle just when the next is written", async () => {
  const directory = mkdtempSync(join(tmpdir(), "overlay-ts-calls-"));
  const path = join(directory, "a.sock");
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    socket.once("data", () => {
      socket.write("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n1");
      // As one whose time for an idle connection is over.
      socket.on("data", () => socket.destroy());
    });
    socket.on("error", () => {});
  });
  onTestFinished(() => {
    server.close();
    rmSync(directory, { recursive: true });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  for (let call = 1; call <= 3; call++) {
    expect(await callUnix(path, "GET", "/")).toBe(1);
    expect(connections).toBe(call);
  }
});
