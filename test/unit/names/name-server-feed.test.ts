import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SandboxId } from "../../../agent/dns/port.ts";
import { type Endpoint, familiesOf } from "../../../shared/documents.ts";
import { EndpointId, type NetworkId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { ruleMac } from "../../../shared/mac.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import {
  createEndpoint,
  createNetwork,
  ENDPOINT,
  endpointBody,
  joinBody,
} from "../../support/plugin-bodies.ts";

const directory = mkdtempSync(join(tmpdir(), "ovt-resolving-"));
const SANDBOX = "1a2b3c4d5e6f" as SandboxId;
let cluster: FakeCluster;
let h1: FakeHost;
let h2: FakeHost;
let network: NetworkId;

/** A network made on h1, with a container there that asks. */
beforeEach(async () => {
  cluster = await fakeCluster(2, directory);
  [h1, h2] = cluster.hosts as [FakeHost, FakeHost];
  const pools = [{ AddressSpace: "LocalDefault", Pool: "10.7.0.0/24", Gateway: "10.7.0.1/24" }];
  await h1.call("NetworkDriver.CreateNetwork", createNetwork({ pools }));
  await h1.call("NetworkDriver.CreateEndpoint", createEndpoint("10.7.0.9/24"));
  await h1.call("NetworkDriver.Join", {
    ...joinBody(),
    SandboxKey: `/run/docker/netns/${SANDBOX}`,
  });
  [network] = [...h1.agent.bindings.networks().values()] as [NetworkId];
});

afterEach(() => cluster.stop());
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A container of the host, by another way than Docker. */
async function put(
  host: FakeHost,
  digit: string,
  names: string[],
  out?: string,
): Promise<Endpoint> {
  await expect.poll(() => host.agent.hosting.find(network)).toBeDefined();
  const record = host.agent.hosting.record(network);
  const ips = await host.agent.ipam.allot(record, AbortSignal.timeout(5000));
  await host.agent.hosting.enter(network);
  const [first] = ips as [Ip];
  const id = EndpointId.parse(digit.repeat(64));
  const said = out === undefined ? {} : { out };
  const endpoint: Endpoint = { id, ...familiesOf(ips), mac: ruleMac(first), names, ...said };
  host.agent.hosting.put(network, endpoint);
  return endpoint;
}

const ask = (name: string): string[] | undefined => h1.names.ask(SANDBOX, name);

describe("what a container hears", () => {
  test("another host's container by its name, until it is gone", async () => {
    const { id, ipv4 } = await put(h2, "b", ["db"]);
    await expect.poll(() => ask("db")).toEqual([ipv4]);
    h2.agent.hosting.remove(network, id);
    await expect.poll(() => ask("db")).toBeUndefined();
  });

  test("one that is unhealthy is known and not given", async () => {
    await put(h2, "b", ["db"], "unhealthy");
    await expect.poll(() => ask("db")).toEqual([]);
  });

  test("nothing, once it left; what it was on is not asked for again", async () => {
    await put(h2, "b", ["db"]);
    await h1.call("NetworkDriver.Leave", endpointBody());
    expect(h1.names.served.size).toBe(0);
  });

  test("the same after the agent started again", async () => {
    const { ipv4 } = await put(h2, "b", ["db"]);
    await expect.poll(() => ask("db")).toEqual([ipv4]);
    const { next, names } = await h1.restarted();
    expect(names.ask(SANDBOX, "db")).toEqual([ipv4]);
    await next.stop();
  });

  test("where Docker says that it is, when its Join was lost", async () => {
    const { ipv4 } = await put(h2, "b", ["db"]);
    await h1.agent.resolving.leave(EndpointId.parse(ENDPOINT));
    expect(ask("db")).toBeUndefined();
    const path = `/var/run/docker/netns/${SANDBOX}`;
    h1.agent.resolving.found({ endpoint: EndpointId.parse(ENDPOINT), network, path });
    await expect.poll(() => ask("db")).toEqual([ipv4]);
    // Of an endpoint that is gone nothing is believed.
    h1.agent.resolving.found({
      endpoint: EndpointId.parse("ab".repeat(32)),
      network,
      path: "/x/y",
    });
    expect(h1.agent.resolving.wanted()).toEqual([SANDBOX]);
  });

  test("nothing is served after the machine started again", async () => {
    await h1.plugin.stop();
    const next = await h1.rebooted();
    expect(h1.names.served.size).toBe(0);
    await next.stop();
  });

  test("a host whose kernel does not answer is left out", async () => {
    const { ipv4 } = await put(h2, "b", ["db"]);
    await expect.poll(() => ask("db")).toEqual([ipv4]);
    h1.unreachable.add("198.18.0.2");
    await expect.poll(() => ask("db"), { timeout: 10_000 }).toEqual([]);
    h1.unreachable.clear();
    await expect.poll(() => ask("db"), { timeout: 10_000 }).toEqual([ipv4]);
  });
});
