import { ENGINE_KINDS } from "../support/engine-root.ts";
import { FakeEngine } from "../support/fake-engine.ts";
import { engineContract } from "./engine-contract.ts";

for (const kind of ENGINE_KINDS)
  engineContract(`the fake of engine ${kind}`, async () => {
    const nothing = (): void => {};
    const plugin = { createEndpoint: nothing, leave: nothing, deleteEndpoint: nothing };
    const engine = new FakeEngine(plugin, kind);
    return {
      kind,
      engine,
      network: { name: "app", id: engine.network("app") },
      create: async (name) =>
        engine.create(name, {
          checked: true,
          hostname: "My.Host",
          networks: { app: ["Www"] },
          links: ["lv:db", "other"],
          resolvers: true,
        }),
      start: async (id) => engine.start(id),
      heal: async (id) => engine.check(id, "healthy"),
      pause: async (id) => engine.pause(id),
      unpause: async (id) => engine.unpause(id),
      rename: async (id, name) => engine.rename(id, name),
      kill: async (id, signal) => {
        engine.kill(id, signal);
        if (signal === 9) engine.end(id);
      },
      connect: async (id, alias) => engine.connect(id, "app", [alias]),
      disconnect: async (id) => engine.disconnect(id, "app"),
      remove: async (id) => engine.remove(id),
    };
  });
