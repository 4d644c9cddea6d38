import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import type { CallCounts } from "../../agent/docker/plugin/counters.ts";
import type { NetworkId } from "../../shared/ids.ts";
import type { FakeHost } from "./fake-host.ts";

/** Bodies of Docker's calls for tests, and what holds of every refusal. */

export const NETWORK = "9a".repeat(32);
export const OTHER_NETWORK = "9b".repeat(32);
export const ENDPOINT = "f1".repeat(32);
export const OTHER_ENDPOINT = "f2".repeat(32);
export const SUBNET = "10.7.0.0/24";

/** Calls whose body must say something: the empty body of a retried one is refused. */
export const TELLING_CALLS = [
  "NetworkDriver.CreateNetwork",
  "NetworkDriver.DeleteNetwork",
  "NetworkDriver.CreateEndpoint",
  "NetworkDriver.DeleteEndpoint",
  "NetworkDriver.EndpointOperInfo",
  "NetworkDriver.Join",
  "NetworkDriver.Leave",
  "NetworkDriver.ProgramExternalConnectivity",
  "NetworkDriver.RevokeExternalConnectivity",
  "NetworkDriver.AllocateNetwork",
  "NetworkDriver.FreeNetwork",
  "IpamDriver.RequestPool",
  "IpamDriver.ReleasePool",
  "IpamDriver.RequestAddress",
  "IpamDriver.ReleaseAddress",
] as const;

/** Calls that need to say nothing. */
export const SILENT_CALLS = [
  "Plugin.Activate",
  "NetworkDriver.GetCapabilities",
  "NetworkDriver.DiscoverNew",
  "NetworkDriver.DiscoverDelete",
  "NetworkDriver.GwAllocCheck",
  "IpamDriver.GetCapabilities",
  "IpamDriver.GetDefaultAddressSpaces",
] as const;

export const ALL_CALLS = [...TELLING_CALLS, ...SILENT_CALLS];

interface Given {
  readonly id?: string;
  readonly options?: Readonly<Record<string, unknown>> | undefined;
  readonly pools?: readonly unknown[];
}

export function createNetwork({ id = NETWORK, options, pools }: Given = {}): object {
  return {
    NetworkID: id,
    Options: {
      "com.docker.network.enable_ipv6": false,
      "com.docker.network.generic": options ?? {},
    },
    IPv4Data: pools ?? [pool()],
    IPv6Data: [],
  };
}

export function pool(changes: object = {}): object {
  return { AddressSpace: "overlay-ts", Pool: SUBNET, Gateway: "10.7.0.1/24", ...changes };
}

export function endpointBody(id = ENDPOINT, network = NETWORK): object {
  return { NetworkID: network, EndpointID: id };
}

export function createEndpoint(address: string, id = ENDPOINT, mac = ""): object {
  return {
    ...endpointBody(id),
    Interface: { Address: address, AddressIPv6: "", MacAddress: mac },
    Options: { "com.docker.network.endpoint.exposedports": [] },
  };
}

export function joinBody(id = ENDPOINT, network = NETWORK): object {
  return { ...endpointBody(id, network), SandboxKey: "/var/run/docker/netns/1", Options: {} };
}

/** A body that the call understands. */
export function goodBody(
  name: (typeof TELLING_CALLS)[number],
  poolId: string,
): Record<string, unknown> {
  switch (name) {
    case "NetworkDriver.CreateNetwork":
      return { ...createNetwork() };
    case "NetworkDriver.CreateEndpoint":
      return { ...createEndpoint("10.7.0.200/24", "f9".repeat(32)) };
    case "NetworkDriver.Join": {
      const { Options: _, ...rest } = joinBody() as Record<string, unknown>;
      return rest;
    }
    case "NetworkDriver.DeleteNetwork":
    case "NetworkDriver.AllocateNetwork":
    case "NetworkDriver.FreeNetwork":
      return { NetworkID: NETWORK };
    case "IpamDriver.RequestPool":
      return {
        AddressSpace: "overlay-ts",
        Pool: "10.8.0.0/24",
        SubPool: "",
        Options: {},
        V6: false,
      };
    case "IpamDriver.ReleasePool":
      return { PoolID: poolId };
    case "IpamDriver.RequestAddress":
      return { PoolID: poolId, Address: "", Options: null };
    case "IpamDriver.ReleaseAddress":
      return { PoolID: poolId, Address: "10.7.0.200" };
    default:
      return { ...endpointBody() };
  }
}

/** A network with the overlay-ts IPAM, as `docker network create` makes it; its pool's id. */
export async function makeNetwork(host: FakeHost): Promise<string> {
  const { PoolID } = await done(host, "IpamDriver.RequestPool", {
    AddressSpace: "overlay-ts",
    Pool: SUBNET,
    SubPool: "",
    Options: {},
    V6: false,
  });
  await done(host, "IpamDriver.RequestAddress", {
    PoolID,
    Address: "",
    Options: { RequestAddressType: "com.docker.network.gateway" },
  });
  await done(host, "NetworkDriver.CreateNetwork", createNetwork());
  return PoolID as string;
}

/** An endpoint as `docker run` makes it; its address with prefix. */
/** A network that is made there, with a container whose address is 10.7.0.9, and its namespace. */
export async function joinNetwork(host: FakeHost, sandbox: string): Promise<NetworkId> {
  const pools = [{ AddressSpace: "LocalDefault", Pool: SUBNET, Gateway: "10.7.0.1/24" }];
  await host.call("NetworkDriver.CreateNetwork", createNetwork({ pools }));
  await host.call("NetworkDriver.CreateEndpoint", createEndpoint("10.7.0.9/24"));
  const SandboxKey = `/run/docker/netns/${sandbox}`;
  await host.call("NetworkDriver.Join", { ...joinBody(), SandboxKey });
  const [network] = host.agent.bindings.networks().values();
  return network!;
}

export async function makeEndpoint(host: FakeHost, poolId: string, id = ENDPOINT): Promise<string> {
  const asked = { PoolID: poolId, Address: "", Options: null };
  const { Address } = await done(host, "IpamDriver.RequestAddress", asked);
  await done(host, "NetworkDriver.CreateEndpoint", createEndpoint(Address as string, id));
  return Address as string;
}

/** The call's answer, which must be a success. */
export async function done(
  host: FakeHost,
  name: string,
  body?: unknown,
): Promise<Readonly<Record<string, unknown>>> {
  const { status, body: answer } = await host.call(name, body);
  expect({ name, status, answer }).toMatchObject({ name, status: 200 });
  return answer;
}

export interface Refusal {
  readonly status?: number;
  /** Whether the body was read, and the rules refused it. */
  readonly decoded?: boolean;
}

/**
 * The call is refused: in both fields, with the cause and what to do, counted, and nothing of this
 * host or of the controller has changed.
 */
export async function refused(
  host: FakeHost,
  name: string,
  body: unknown,
  reason: RegExp,
  { status = 500, decoded = false }: Refusal = {},
): Promise<void> {
  const before = { tables: await host.tables(), counts: countsOf(host, name) };
  const answer = await host.call(name, body);
  const text = answer.body["Err"];
  expect(answer).toEqual({ status, body: { Err: text, Error: text } });
  expect(text).toMatch(reason);
  // The cause, and in brackets the next step; on one line, and not all of what came.
  expect(text).toMatch(/^[^\p{Cc}]{1,1200} \([^\p{Cc}]{3,}\)$/u);
  expect(text).not.toMatch(/see the agent's log/);
  expect(await host.tables()).toBe(before.tables);
  const after = countsOf(host, name);
  expect(after).toEqual({
    ...before.counts,
    asked: before.counts.asked + 1,
    refused: before.counts.refused + 1,
    decoded: before.counts.decoded + (decoded ? 1 : 0),
  });
}

export function countsOf(host: FakeHost, name: string): CallCounts {
  return host.plugin.counts().calls[name] ?? { asked: 0, decoded: 0, refused: 0, late: 0 };
}

/** Waits for a condition; the test's own time limit ends it. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await delay(1);
}
