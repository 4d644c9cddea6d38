import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { EngineClient } from "../../../agent/docker/engine/client.ts";

test("an engine that takes what it is asked and is silent is told apart from one that does not run", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ovt-engine-silent-"));
  const path = join(directory, "docker.sock");
  const silent = createServer((socket) => socket.on("error", () => {}).resume()).listen(path);
  await once(silent, "listening");
  const client = new EngineClient(path, 20);
  await expect(client.info()).rejects.toMatchObject({
    code: "UNREACHABLE",
    message: `the Docker engine does not answer on ${path}: it takes connections, and has said nothing for 0.02 s`,
    next: expect.stringMatching(/journalctl -u docker.*systemctl restart docker/),
  });
  silent.close();
  await once(silent, "close");
  await expect(client.info()).rejects.toMatchObject({
    code: "UNREACHABLE",
    message: expect.stringMatching(/does not answer on .*: connect ENOENT/),
    next: expect.stringMatching(/systemctl start docker/),
  });
  rmSync(directory, { recursive: true });
});
