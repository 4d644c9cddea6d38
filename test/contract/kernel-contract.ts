import { expect, test } from "vitest";
import { driftOf, HeldNetwork } from "../../agent/core/data-plane/held-network.ts";
import {
  type ActualNetwork,
  portLink,
  type Step,
} from "../../agent/core/data-plane/kernel-state.ts";
import type { Kernel } from "../../agent/kernel/port.ts";
import type { EndpointId, NetworkId } from "../../shared/ids.ts";
import { addressesOf } from "../../shared/documents.ts";
import { app, dataPlane, endpoint, vtepOf, withIpv6, withWayOut } from "../support/cluster.ts";

const local = endpoint(1, 5);
const port = { endpoint: local.id, mac: local.mac, ips: addressesOf(withIpv6(local)) };
const remote = (k: number, n: number) => ({
  mac: endpoint(k, n).mac,
  vtep: vtepOf(k),
  ips: addressesOf(withIpv6(endpoint(k, n))),
});
const desired = withWayOut(dataPlane(1));
const extend: Step = { kind: "extend", desired };

/** In no order: a kernel has none. */
function sorted(actual: ActualNetwork) {
  const by = (list: readonly unknown[]): string[] =>
    list.map((item) => JSON.stringify(item)).toSorted();
  const { vxlanFdb, bridgeFdb, neighbours, ports } = actual;
  return { fdb: by(vxlanFdb), bridge: by(bridgeFdb), neighbours: by(neighbours), ports: by(ports) };
}

/**
 * What every kernel does; `current` is a fresh one for each test. `leaveUnfinished` makes of a port what an
 * agent leaves that dies while it makes it; `spoil` changes what is made with a network and has no field of its own.
 */
export function kernelContract(
  current: () => Kernel,
  leaveUnfinished: (network: NetworkId, endpoint: EndpointId) => void,
  spoil: (network: NetworkId) => void,
): void {
  const apply = (...steps: Step[]): Promise<void> => current().apply(app.id, steps);
  const read = (): Promise<ActualNetwork> => current().read(app.id);

  test("nothing, then a network, then nothing", async () => {
    expect(await read()).toMatchObject({ present: false, device: undefined });
    await apply(extend);
    const { vni, udpPort, localVtep, mtuBytes, gateways, multicast, transit } = desired;
    const shape = { vni, udpPort, localVtep, mtuBytes, gateways, multicast, transit };
    expect((await read()).device).toEqual(shape);
    expect(await current().list()).toEqual([app.id]);
    await apply({ kind: "retract" });
    expect(await read()).toMatchObject({ present: false, device: undefined });
    expect(await current().list()).toEqual([]);
  });

  test("every step twice is as once", async () => {
    const steps: Step[] = [
      extend,
      { kind: "putRemotes", remotes: [remote(2, 5), remote(3, 5)] },
      { kind: "putPort", port },
    ];
    await apply(...steps);
    const once = sorted(await read());
    await apply(...steps);
    expect(sorted(await read())).toEqual(once);
    expect(once.ports).toEqual([JSON.stringify(port)]);
  });

  test("what each step leaves is what a HeldNetwork says it leaves", async () => {
    const multicast: Step = { kind: "extend", desired: { ...desired, multicast: true } };
    const { mac, vtep, ips } = remote(2, 5);
    const steps: Step[] = [
      multicast,
      { kind: "putRemotes", remotes: [remote(2, 5), remote(3, 5), remote(3, 6)] },
      { kind: "putRemotes", remotes: [{ ...remote(3, 6), vtep: vtepOf(2) }] },
      { kind: "putFlood", vteps: [vtepOf(2), vtepOf(3)] },
      { kind: "putPort", port },
      { kind: "removeFdb", entries: [{ mac, vtep }] },
      { kind: "removeNeighbours", ips },
      { kind: "removeFlood", vteps: [vtepOf(3)] },
      extend,
      { kind: "removePort", link: portLink(port.endpoint) },
      { kind: "retract" },
    ];
    const held = new HeldNetwork(await read());
    for (const step of steps) {
      await apply(step);
      held.carriedOut(step);
      expect([step.kind, ...driftOf(held, new HeldNetwork(await read()))]).toEqual([step.kind]);
    }
  });

  test("a container that moved is at its new host only", async () => {
    const moved = { ...remote(2, 5), vtep: vtepOf(3) };
    await apply(extend, { kind: "putRemotes", remotes: [remote(2, 5)] });
    await apply({ kind: "putRemotes", remotes: [moved] });
    expect((await read()).vxlanFdb).toEqual([{ mac: moved.mac, vtep: moved.vtep }]);
  });

  test("removing what is not there, or not there any more, succeeds", async () => {
    const { mac, vtep, ips } = remote(2, 5);
    await apply(extend, { kind: "putRemotes", remotes: [remote(2, 5)] }, { kind: "putPort", port });
    for (let round = 0; round < 2; round++)
      await apply(
        { kind: "removeFdb", entries: [{ mac, vtep }] },
        { kind: "removeNeighbours", ips },
        { kind: "removePort", link: portLink(port.endpoint) },
      );
    const actual = sorted(await read());
    expect(actual).toEqual({ fdb: [], bridge: [], neighbours: [], ports: [] });
    await apply({ kind: "retract" });
    await apply({ kind: "retract" });
  });

  test("a port that a crash left unfinished is no port, and is finished or removed by its link", async () => {
    const link = portLink(port.endpoint);
    await apply(extend, { kind: "putPort", port });
    expect(await read()).toMatchObject({ ports: [port], unfinishedPorts: [] });
    leaveUnfinished(app.id, port.endpoint);
    expect(await read()).toMatchObject({ ports: [], unfinishedPorts: [link] });
    await apply({ kind: "putPort", port });
    expect(await read()).toMatchObject({ ports: [port], unfinishedPorts: [] });
    leaveUnfinished(app.id, port.endpoint);
    await apply({ kind: "removePort", link });
    expect(await read()).toMatchObject({ ports: [], unfinishedPorts: [] });
  });

  test("what was changed behind our back is said, and is as it was with the network made again", async () => {
    await apply(extend, { kind: "putRemotes", remotes: [remote(2, 5)] }, { kind: "putPort", port });
    const before = await read();
    expect(before.faults).toEqual([]);
    spoil(app.id);
    expect((await read()).faults).toHaveLength(1);
    await apply(extend);
    expect((await read()).faults).toEqual([]);
    expect(sorted(await read())).toEqual(sorted(before));
  });

  test("another MTU is set without taking ports or entries away", async () => {
    await apply(extend, { kind: "putRemotes", remotes: [remote(2, 5)] }, { kind: "putPort", port });
    const before = sorted(await read());
    await apply({ kind: "extend", desired: { ...desired, mtuBytes: 1400 } });
    const after = await read();
    expect(after.device?.mtuBytes).toBe(1400);
    expect(sorted(after)).toEqual(before);
  });

  test("copies of what goes to everybody go to each host told, once, until it is taken away", async () => {
    await apply({ kind: "extend", desired: { ...desired, multicast: true } });
    expect((await read()).device?.multicast).toBe(true);
    await apply({ kind: "putFlood", vteps: [vtepOf(2), vtepOf(3)] });
    await apply({ kind: "putFlood", vteps: [vtepOf(3)] });
    expect((await read()).flood.toSorted()).toEqual([vtepOf(2), vtepOf(3)]);
    for (let round = 0; round < 2; round++)
      await apply({ kind: "removeFlood", vteps: [vtepOf(2)] });
    expect((await read()).flood).toEqual([vtepOf(3)]);
    await apply(extend);
    expect((await read()).device?.multicast).toBe(false);
  });

  test("a step on a network without devices fails by name", async () => {
    await expect(apply({ kind: "putRemotes", remotes: [remote(2, 5)] })).rejects.toMatchObject({
      code: "NETLINK",
      errno: "ENODEV",
    });
    await expect(apply({ kind: "putPort", port })).rejects.toMatchObject({ errno: "ENODEV" });
  });

  test("a container's link has a name the kernel takes, one for each endpoint", () => {
    const names = [local.id, endpoint(1, 6).id].map((id) => current().containerLink(id));
    expect(new Set(names).size).toBe(2);
    for (const name of names) expect(name.length).toBeLessThanOrEqual(15);
  });
}
