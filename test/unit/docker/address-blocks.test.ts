import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, test, vi } from "vitest";
import { readNetwork } from "../../../agent/core/data-plane/read-network.ts";
import { DockerNetworkId, type NetworkId } from "../../../shared/ids.ts";
import { Cidr, Ip } from "../../../shared/ip.ts";
import { failOnCrashes } from "../../support/crashes.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import {
  countsOf,
  createEndpoint,
  createNetwork,
  done,
  endpointBody,
  NETWORK,
  until,
} from "../../support/plugin-bodies.ts";

/** A network with Docker's own IPAM, made on h1: whose are the addresses of the containers there? */

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-blocks-"));
let cluster: FakeCluster;
let h1: FakeHost;
let h2: FakeHost;
let network: NetworkId;

beforeEach(async () => {
  cluster = await fakeCluster(2, directory);
  [h1, h2] = cluster.hosts as [FakeHost, FakeHost];
  const pools = [{ AddressSpace: "LocalDefault", Pool: "10.9.0.0/24", Gateway: "10.9.0.254/24" }];
  await done(h1, "NetworkDriver.CreateNetwork", createNetwork({ pools }));
  network = h1.agent.bindings.network(DockerNetworkId.parse(NETWORK))!;
});

afterEach(() => cluster.stop());
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const CREATE_ENDPOINT = "NetworkDriver.CreateEndpoint";
const id = (n: number): string => `${n}`.padStart(64, "f");
const start = (n: number) => done(h1, CREATE_ENDPOINT, createEndpoint(`10.9.0.${n}/24`, id(n)));

/** As agent/docker/network-sync.ts does when the engine has told the network. */
async function tellName(...dockerRanges: string[]): Promise<void> {
  await h1.agent.controller.request(
    {
      v: 1,
      kind: "nameNetwork",
      network,
      name: "app",
      labels: {},
      attachable: true,
      dockerRanges: dockerRanges.map((range) => Cidr.parse(range)),
    },
    "network",
  );
}

async function blocks(): Promise<string[]> {
  return (await cluster.controller.state()).blocks.map(({ block }) => block).toSorted();
}

/** Of h1's containers, those in whose addresses other hosts believe. */
function believed(): string[] {
  const { replication, localNetworks } = h1.agent;
  const { holders } = readNetwork(replication.tables, localNetworks.record(network));
  return holders.map(({ endpoint }) => endpoint.ipv4 ?? "none").toSorted();
}

test("containers that start before the engine has told --ip-range keep their addresses", async () => {
  for (const n of [10, 150, 200]) await start(n);
  await tellName("10.9.0.128/25");
  expect(believed()).toEqual(["10.9.0.10", "10.9.0.150", "10.9.0.200"]);
  const { ipam, localNetworks } = h2.agent;
  await h2.quiet();
  const claim = ipam.claim(
    localNetworks.record(network),
    Ip.parse("10.9.0.10"),
    AbortSignal.timeout(5000),
  );
  await expect(claim).rejects.toThrow(/10\.9\.0\.10 belongs to the addresses of host h1/);
});

test("so does one whose host has not heard yet that the range was told", async () => {
  const release = h1.control.hold();
  const named = tellName("10.9.0.128/25");
  const started = start(10);
  await until(() => countsOf(h1, CREATE_ENDPOINT).decoded === 1);
  release();
  await Promise.all([named, started]);
  expect(believed()).toEqual(["10.9.0.10"]);
});

test.each([10, 150])(
  "a call for .%i that came too late leaves Docker's part as it is",
  async (n) => {
    const { ipam, localNetworks } = h1.agent;
    const asked = vi.spyOn(h1.agent.controller, "request");
    const call = new AbortController();
    const release = h1.control.hold();
    const named = tellName("10.9.0.128/25");
    const claim = ipam.claim(localNetworks.record(network), Ip.parse(`10.9.0.${n}`), call.signal);
    const refused = expect(claim).rejects.toThrow(/aborted/);
    await until(() => asked.mock.calls.length === 2);
    call.abort();
    release();
    await Promise.all([named, refused]);
    expect(await blocks()).toEqual(["10.9.0.128/26"]);
  },
);

test("an address outside of Docker's half is this host's for as long as a container has it", async () => {
  const { ipam } = h1.agent;
  await tellName("10.9.0.128/25");
  await start(10);
  const hourMs = 3_600_000;
  for (const nowMs of [0, hourMs, 2 * hourMs]) await ipam.returnEmpty(nowMs);
  expect(believed()).toEqual(["10.9.0.10"]);
  await done(h1, "NetworkDriver.DeleteEndpoint", endpointBody(id(10)));
  for (const nowMs of [3 * hourMs, 4 * hourMs]) await ipam.returnEmpty(nowMs);
  expect(await blocks()).toEqual(["10.9.0.128/26"]);
});
