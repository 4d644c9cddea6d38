import { beforeEach, describe } from "vitest";
import { FakeNameServer } from "../fakes/fake-name-server.ts";
import type { SandboxId } from "../../agent/names/server/port.ts";
import { nameServerContract } from "./name-server-contract.ts";

describe("names in memory", () => {
  let server: FakeNameServer;
  let last = 0;
  beforeEach(async () => {
    server = new FakeNameServer();
    await server.start();
  });
  nameServerContract(() => ({
    server,
    container: () => {
      const id = (++last).toString(16).padStart(12, "0") as SandboxId;
      return Promise.resolve({
        sandbox: (scope) => ({ id, path: `/run/docker/netns/${id}`, scope, closed: undefined }),
        ask: (name, type) => Promise.resolve(server.ask(id, name, type)),
      });
    },
  }));
});
