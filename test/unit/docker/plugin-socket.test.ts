import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { PluginSocket } from "../../../agent/docker/plugin/plugin-socket.ts";
import { listenUnix } from "../../../shared/node/unix-http.ts";

test.each([
  ["the agent made", false, "`systemctl restart overlay-ts-agent`"],
  ["systemd made", true, "`systemctl restart overlay-ts-plugin.socket overlay-ts-agent`"],
])(
  "a socket that %s, deleted under who serves it, is named with the restart",
  async (_, inherited, restart) => {
    const directory = mkdtempSync(join(tmpdir(), "ovt-plugin-socket-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const path = join(directory, "overlay-ts.sock");
    const server = createServer();
    await listenUnix(server, path);
    onTestFinished(() => void server.close());
    const socket = new PluginSocket(path, inherited);
    expect(socket.failure()).toBeUndefined();
    rmSync(path);
    expect(socket.failure()).toMatchObject({
      message: expect.stringContaining(`${path} is gone`) as string,
      next: expect.stringContaining(restart) as string,
    });
  },
);
