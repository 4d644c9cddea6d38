import { inspect } from "node:util";
import { expect, test } from "vitest";
import { PAIR_KEY_BYTES, PairKey } from "../../agent/core/keys/pair-key.ts";
import type { SaName } from "../../agent/core/keys/security-association.ts";
import type { IpsecKernel } from "../../agent/encryption/ipsec/port.ts";
import { hex } from "../../shared/codec.ts";
import { systemRandom } from "../../shared/node/system.ts";
import type { Ip } from "../../shared/ip.ts";

export interface IpsecUnderTest {
  readonly kernel: IpsecKernel;
  readonly local: Ip;
  readonly peer: Ip;
  /** The same kernel, for an agent of the same host at another address. The caller closes it. */
  moved(): IpsecKernel;
  /** By somebody else. */
  flushAssociations(): void;
  flushPolicies(): void;
}

/** What every kernel's IPsec does; `current` is a fresh one for each test. */
export function ipsecContract(current: () => IpsecUnderTest): void {
  const newKey = (): PairKey => new PairKey(systemRandom.bytes(PAIR_KEY_BYTES));
  const outbound = (spi: number): SaName => ({
    source: current().local,
    destination: current().peer,
    spi,
  });
  const inbound = (spi: number): SaName => ({
    source: current().peer,
    destination: current().local,
    spi,
  });
  const names = async (): Promise<SaName[]> =>
    (await current().kernel.list())
      .map(({ source, destination, spi }) => ({ source, destination, spi }))
      .toSorted((a, b) => a.spi - b.spi);

  test("it can do what the class needs", async () => {
    await current().kernel.check();
    expect(await current().kernel.list()).toEqual([]);
  });

  test("both directions of a pair are put, listed with what went through them, and removed", async () => {
    const { kernel } = current();
    await kernel.put(inbound(0x1001), newKey());
    await kernel.put(outbound(0xffff_fffe), newKey());
    expect(await kernel.list()).toContainEqual({ ...inbound(0x1001), packets: 0, bytes: 0 });
    expect(await names()).toEqual([inbound(0x1001), outbound(0xffff_fffe)]);
    await kernel.remove([inbound(0x1001)]);
    await kernel.remove([inbound(0x1001), outbound(0xffff_fffe)]);
    expect(await kernel.list()).toEqual([]);
  });

  test("a successor stands beside its predecessor, with the same ends", async () => {
    const { kernel } = current();
    for (const spi of [0x2001, 0x2002, 0x2003]) await kernel.put(outbound(spi), newKey());
    await kernel.remove([outbound(0x2001)]);
    expect(await names()).toEqual([outbound(0x2002), outbound(0x2003)]);
  });

  test("an SPI that is taken is refused by name, and no key is in what is said of it", async () => {
    const { kernel } = current();
    const key = newKey();
    await kernel.put(inbound(0x3001), newKey());
    const error: unknown = await kernel.put(inbound(0x3001), key).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: "NETLINK", errno: "EEXIST" });
    const said = [String(error), JSON.stringify(error), JSON.stringify(key), inspect(key)].join();
    expect(said).not.toContain(hex(key.reveal()).slice(0, 16));
    expect(said).not.toContain(Buffer.from(key.reveal()).toString("base64").slice(0, 12));
    expect(await names()).toEqual([inbound(0x3001)]);
  });

  test("policies are missed, written, written again, and missed when somebody flushes them", async () => {
    const { kernel } = current();
    expect(await kernel.verifyPolicies()).toBe(false);
    for (let i = 0; i < 2; i++) {
      await kernel.setPolicies();
      expect(await kernel.verifyPolicies()).toBe(true);
    }
    const told: string[] = [];
    kernel.onLoss((of) => told.push(of));
    current().flushPolicies();
    await expect.poll(() => told, { timeout: 20_000 }).toContain("policies");
    expect(await kernel.verifyPolicies()).toBe(false);
    await kernel.setPolicies();
    expect(await kernel.verifyPolicies()).toBe(true);
  });

  test("a flush of SAs is told, our own removals are not", async () => {
    const { kernel } = current();
    const told: string[] = [];
    kernel.onLoss((of) => told.push(of));
    await kernel.put(outbound(0x4001), newKey());
    await kernel.put(inbound(0x4002), newKey());
    await kernel.remove([outbound(0x4001)]);
    expect(told).toEqual([]);
    current().flushAssociations();
    await expect.poll(() => told, { timeout: 20_000 }).toEqual(["associations"]);
    expect(await kernel.list()).toEqual([]);
  });

  test("of an address that the host has no more policies stay until they are told to go; others do not", async () => {
    const { kernel } = current();
    const moved = current().moved();
    try {
      await kernel.setPolicies();
      await moved.setPolicies();
      expect(await kernel.verifyPolicies()).toBe(true);
      expect(await moved.verifyPolicies()).toBe(true);
      for (let i = 0; i < 2; i++) {
        await moved.removeElsewhere();
        expect(await kernel.verifyPolicies()).toBe(false);
        expect(await moved.verifyPolicies()).toBe(true);
      }
      await kernel.setPolicies();
      await moved.removeAll();
      await moved.setPolicies();
      expect(await kernel.verifyPolicies()).toBe(false);
    } finally {
      await moved.close();
    }
  });

  test("nothing of ours stays after the last step", async () => {
    const { kernel } = current();
    await kernel.setPolicies();
    await kernel.put(outbound(0x5001), newKey());
    await kernel.removeAll();
    expect(await kernel.list()).toEqual([]);
    expect(await kernel.verifyPolicies()).toBe(false);
  });
}
