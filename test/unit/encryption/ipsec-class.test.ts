import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { DEFAULT_KEY_EXCHANGE_OPTIONS } from "../../../agent/core/keys/ipsec-options.ts";
import { saText } from "../../../agent/core/keys/security-association.ts";
import { FakeIpsec } from "../../fakes/fake-ipsec.ts";
import { Ipsec } from "../../../agent/encryption/ipsec/ipsec.ts";
import { type Failure, OverlayError } from "../../../shared/errors.ts";
import { systemClock, systemRandom } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { nodeId, vtepOf } from "../../support/cluster.ts";
import { MemoryKeyChannels } from "../../support/memory-key-channel.ts";

describe("IPsec of a host as it runs", () => {
  let channels: MemoryKeyChannels;
  const running: Ipsec[] = [];
  const kernels = new Map<number, FakeIpsec>();

  function host(k: number, local = vtepOf(k), adoptedMs = 50): Ipsec {
    const before = kernels.get(k);
    const isMoved = before !== undefined && local !== vtepOf(k);
    const kernel = isMoved ? new FakeIpsec(local, before) : (before ?? new FakeIpsec());
    kernels.set(k, kernel);
    const ipsec = new Ipsec(
      {
        local,
        keys: {
          ...DEFAULT_KEY_EXCHANGE_OPTIONS,
          retryMs: 20,
          outboundGraceMs: 20,
          inboundGraceMs: 20,
          adoptedMs,
        },
        readPeriodMs: 10_000,
        guards: { coalesceMs: 1, retryFirstMs: 10, retryMostMs: 10 },
      },
      {
        kernel,
        channel: channels.of(nodeId(k)),
        clock: systemClock,
        random: systemRandom,
        log: silentLog,
      },
    );
    running.push(ipsec);
    return ipsec;
  }

  const peersOf = (k: number) =>
    new Map([1, 2, 3].filter((j) => j !== k).map((j) => [nodeId(j), vtepOf(j)]));

  async function three(): Promise<Ipsec[]> {
    const hosts = [1, 2, 3].map((k) => host(k));
    await Promise.all(hosts.map((ipsec, i) => ipsec.start(peersOf(i + 1))));
    await allReady(hosts);
    return hosts;
  }

  /** Far more than it takes: whoever waits for nothing is found all the same. */
  const soon = (what: () => unknown) => expect.poll(what, { timeout: 20_000 });

  const allReady = (hosts: readonly Ipsec[]): Promise<void> =>
    soon(() =>
      hosts.every((ipsec, i) => [...peersOf(i + 1).keys()].every((node) => ipsec.ready(node))),
    ).toBe(true);

  /** Every outbound SA has the same key in the kernel of its destination. */
  const agree = (): Promise<void> =>
    soon(async () => {
      const differ: string[] = [];
      for (const [k, kernel] of kernels)
        for (const sa of await kernel.list()) {
          if (sa.source !== vtepOf(k)) continue;
          const j = [1, 2, 3].find((other) => vtepOf(other) === sa.destination)!;
          if (kernels.get(j)!.keyOf(sa) !== kernel.keyOf(sa)) differ.push(saText(sa));
        }
      return differ;
    }).toEqual([]);

  beforeEach(() => {
    channels = new MemoryKeyChannels();
    kernels.clear();
  });
  afterEach(async () => {
    for (const ipsec of running.splice(0)) await ipsec.stop();
  });

  test("each direction of each pair has its own key; a rotation is two questions each way", async () => {
    const hosts = await three();
    await agree();
    const reported = () => hosts.map((ipsec) => ipsec.counters().reported);
    await soon(reported).toEqual([2, 2, 2]);
    const { requests } = channels;
    hosts[0]!.rotate(nodeId(2));
    await soon(reported).toEqual([3, 3, 2]);
    expect(channels.requests - requests).toBe(4);
    const count = async () =>
      Promise.all([...kernels.values()].map(async (kernel) => (await kernel.list()).length));
    await soon(count).toEqual([4, 4, 4]);
    const keys = new Set<string | undefined>();
    for (const kernel of kernels.values())
      for (const sa of await kernel.list()) keys.add(kernel.keyOf(sa));
    expect(keys.size).toBe(6);
  });

  test("policies stand before anything else, and a host whose kernel refuses them does not start", async () => {
    const ipsec = host(1);
    const refused = new OverlayError({ code: "NETLINK", message: "no", errno: "EPERM" });
    kernels.get(1)!.policyFailure = refused;
    await expect(ipsec.start(peersOf(1))).rejects.toBe(refused);
    expect(await kernels.get(1)!.list()).toEqual([]);
  });

  test("policies that are taken away are put back", async () => {
    await three();
    const kernel = kernels.get(1)!;
    kernel.flushPolicies();
    await soon(() => kernel.verifyPolicies()).toBe(true);
  });

  test("policies that cannot be put back: no path, and it is told, until they stand again", async () => {
    const [one] = await three();
    const kernel = kernels.get(1)!;
    const told: (Failure | undefined)[] = [];
    const paths: string[] = [];
    one!.onGuard((failure) => told.push(failure));
    one!.onPath((node) => paths.push(node));
    kernel.policyFailure = new OverlayError({ code: "NETLINK", message: "no", errno: "ENOMEM" });
    kernel.flushPolicies();
    await soon(() => told).toMatchObject([{ errno: "ENOMEM" }]);
    expect(one!.ready(nodeId(2))).toBe(false);
    expect(paths.toSorted()).toEqual([nodeId(2), nodeId(3)]);
    kernel.policyFailure = undefined;
    await soon(() => told.length).toBe(2);
    expect(told[1]).toBeUndefined();
    expect(one!.ready(nodeId(2))).toBe(true);
  });

  test("of a host that moved keys and policies of the old address stay until the new keys are there, and no longer", async () => {
    const [one, two, three_] = await three();
    const kernel = kernels.get(1)!;
    await one!.stop();
    channels.cut.add(nodeId(1));
    const moved = host(1, vtepOf(4), 600_000);
    await moved.start(peersOf(1));
    const ofOld = async () =>
      (await kernel.list()).filter(({ source, destination }) =>
        [source, destination].includes(vtepOf(1)),
      ).length;
    // What the first reading would have removed is removed before the second.
    const readings = vi.spyOn(kernels.get(1)!, "list");
    moved.check();
    await soon(() => readings.mock.calls.length).toBe(1);
    expect([await ofOld(), await kernel.verifyPolicies()]).toEqual([4, true]);

    channels.cut.clear();
    for (const [ipsec, k] of [
      [two!, 2],
      [three_!, 3],
    ] as const)
      ipsec.want(new Map([...peersOf(k), [nodeId(1), vtepOf(4)]]));
    await soon(() => [2, 3].every((k) => moved.ready(nodeId(k)))).toBe(true);
    moved.check();
    await soon(async () => [await ofOld(), await kernel.verifyPolicies()]).toEqual([0, false]);
    expect(await kernels.get(1)!.verifyPolicies()).toBe(true);
    expect([2, 3].every((k) => moved.ready(nodeId(k)))).toBe(true);
  });

  test("a peer that is away does not keep what is of the old address for ever", async () => {
    const [one] = await three();
    const kernel = kernels.get(1)!;
    await one!.stop();
    channels.cut.add(nodeId(1));
    const moved = host(1, vtepOf(4), 50);
    await moved.start(peersOf(1));
    await soon(async () => {
      moved.check();
      return [(await kernel.list()).length, await kernel.verifyPolicies()];
    }).toEqual([0, false]);
  });

  test("SAs that are flushed on one host are new on all its pairs, soon", async () => {
    const hosts = await three();
    const kernel = kernels.get(1)!;
    const before = new Set((await kernel.list()).map(({ spi }) => spi));
    kernel.flushAssociations();
    await soon(() => hosts[0]!.ready(nodeId(2))).toBe(true);
    await soon(async () => (await kernel.list()).length).toBeGreaterThanOrEqual(4);
    await allReady(hosts);
    await soon(async () => {
      const outbound = (await kernels.get(2)!.list()).filter(
        ({ source, destination }) => source === vtepOf(2) && destination === vtepOf(1),
      );
      return outbound.map(({ spi }) => before.has(spi));
    }).toEqual([false]);
    await agree();
  });

  test("a host that starts again has the paths it had, and then new keys", async () => {
    const hosts = await three();
    await hosts[0]!.stop();
    const before = await kernels.get(1)!.list();
    const again = host(1);
    await again.start(peersOf(1));
    await soon(() => again.ready(nodeId(2)) && again.ready(nodeId(3))).toBe(true);
    await soon(async () => {
      const now = new Set((await kernels.get(1)!.list()).map(({ spi }) => spi));
      return before.filter(({ source, spi }) => source === vtepOf(1) && now.has(spi));
    }).toEqual([]);
    await agree();
  });

  test("a peer that cannot be reached has no path, and has one when it can", async () => {
    channels.cut.add(nodeId(3));
    const hosts = [1, 2, 3].map((k) => host(k));
    await Promise.all(hosts.map((ipsec, i) => ipsec.start(peersOf(i + 1))));
    await soon(() => hosts[0]!.ready(nodeId(2))).toBe(true);
    expect(hosts[0]!.ready(nodeId(3))).toBe(false);
    await soon(() => hosts[0]!.status().find(({ node }) => node === nodeId(3))?.failure).toBe(
      "no-answer",
    );
    channels.cut.clear();
    await allReady(hosts);
  });
});
