import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type {
  Connection,
  ContainerDetails,
  EngineConnection,
  EngineContainer,
  EngineNetwork,
} from "../../../agent/docker/engine/port.ts";
import { ContainerReconnector } from "../../../agent/docker/reconnect-containers.ts";
import type { Endpoint } from "../../../shared/documents.ts";
import { DockerNetworkId, EndpointId } from "../../../shared/ids.ts";
import { app, endpoint } from "../../support/cluster.ts";

const VIEW = DockerNetworkId.parse("a".repeat(64));
const BEFORE = DockerNetworkId.parse("b".repeat(64));
const UNKNOWN = EndpointId.parse("e".repeat(64));
const view = { id: VIEW, name: "app", driver: "overlay-ts" } as EngineNetwork;
const connection: Connection = {
  container: "web",
  started: true,
  aliases: ["w"],
  links: [],
  addresses: {},
};

let said: string[];
let containers: EngineContainer[];
let details: ContainerDetails | undefined;
let attached: boolean;
let reconnector: ContainerReconnector;
const own: Endpoint = endpoint(1, 5);

beforeEach(() => {
  vi.useFakeTimers();
  [said, attached] = [[], false];
  reconnector = new ContainerReconnector({
    engine: {
      containers: async () => containers,
      networks: async () => [view],
      attachments: async () => ({
        name: "app",
        internal: false,
        endpoints: attached ? [{ container: "web", endpoint: UNKNOWN }] : [],
      }),
      connection: async (_, { id }) => {
        said.push(`asked by ${id[0]}`);
        return connection;
      },
      inspect: async () => details,
      disconnect: async () => {
        said.push("disconnect");
        throw new Error("is not connected");
      },
      connect: async (network, { aliases }) => {
        said.push(`connect to ${network[0]} as ${aliases.join()}`);
      },
    },
    bindings: { network: (docker) => (docker === VIEW ? app.id : undefined) },
    localNetworks: { endpoints: () => [own] },
  });
});

afterEach(() => {
  vi.useRealTimers();
});

function running(held: Partial<EngineConnection>, state: EngineContainer["state"] = "up"): void {
  const network = { name: "app", id: VIEW, endpoint: own.id, ...held };
  const health = undefined;
  containers = [{ id: "web", name: "web", running: true, state, health, networks: [network] }];
  details = { connections: [{ ...network, aliases: [] }] } as unknown as ContainerDetails;
}

/** What is said to be due after it stayed so for some seconds; carried out. */
async function passes(): Promise<string[]> {
  expect(await reconnector.due(containers, [view])).toEqual([]);
  vi.advanceTimersByTime(3000);
  for (const one of await reconnector.due(containers, [view])) await reconnector.connect(one);
  return said;
}

test.each<[string, Partial<EngineConnection>, string]>([
  ["was made again under it", { id: BEFORE, shown: "10.192.1.9" }, "b"],
  [
    "has not the endpoint that the container shows",
    { endpoint: UNKNOWN, shown: "10.192.1.9" },
    "a",
  ],
])("a running container whose network %s is connected once more", async (_, held, by) => {
  running(held);
  expect(await reconnector.differences()).toEqual([
    { network: app.id, text: expect.stringContaining("where the engine shows 10.192.1.9, and is") },
  ]);
  expect(await passes()).toEqual([`asked by ${by}`, "disconnect", "connect to a as w"]);
});

test("what Docker refused stays refused, unless the network was replaced at that time; it is said", async () => {
  running({ id: undefined, endpoint: undefined });
  expect(await reconnector.differences()).toHaveLength(1);
  expect(await passes()).toEqual([]);
  reconnector.replaced("app");
  // The engine's list knows nothing of what failed.
  containers = containers.map((container) => ({ ...container, networks: [] }));
  expect(await passes()).toContain("connect to a as w");
});

test("one whose endpoint Docker has is left alone: our database was lost", async () => {
  attached = true;
  running({ endpoint: UNKNOWN });
  expect(await passes()).toEqual([]);
  expect(await reconnector.due(containers, [view])).toEqual([]);
  expect(await reconnector.differences()).toEqual([]);
});

test("nothing is to be done for who is connected, ends, or is on another's network", async () => {
  running({ shown: own.ipv4 });
  expect(await passes()).toEqual([]);
  running({ id: BEFORE }, "down");
  expect(await passes()).toEqual([]);
  running({ name: "bridge", id: BEFORE });
  expect(await passes()).toEqual([]);
  expect(await reconnector.differences()).toEqual([]);
});

test("an address that is not the endpoint's is said, not mended", async () => {
  running({ shown: "10.192.1.9" });
  expect(await reconnector.differences()).toEqual([
    { network: app.id, text: expect.stringMatching(/shows 10\.192\.1\.9.*docker restart web/) },
  ]);
  expect(await passes()).toEqual([]);
});
