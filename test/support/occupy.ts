import { expect, vi } from "vitest";
import { familiesOf } from "../../shared/documents.ts";
import { EndpointId, type NetworkId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import { ruleMac } from "../../shared/mac.ts";
import type { FakeHost } from "./fake-host.ts";
import { PATIENT } from "./patient.ts";

/** The host has a container on a network that was made on another, without an engine that says so. */
export async function occupy({ agent }: FakeHost, network: NetworkId): Promise<void> {
  await vi.waitFor(() => expect(agent.localNetworks.find(network)).toBeDefined(), PATIENT);
  const ips = await agent.ipam.allot(
    agent.localNetworks.record(network),
    AbortSignal.timeout(5000),
  );
  await agent.localNetworks.enter(network);
  const mac = ruleMac(ips[0] as Ip);
  agent.localNetworks.put(network, {
    id: EndpointId.parse("e2".repeat(32)),
    ...familiesOf(ips),
    mac,
  });
}
