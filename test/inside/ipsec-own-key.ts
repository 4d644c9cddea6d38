import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { PAIR_KEY_BYTES, PairKey } from "../../agent/core/keys/pair-key.ts";
import type { SaName } from "../../agent/core/keys/security-association.ts";
import { LinuxIpsec } from "../../agent/encryption/ipsec/linux-ipsec.ts";
import type { Family } from "../../shared/ip.ts";
import { systemRandom } from "../../shared/node/system.ts";
import { isEsp, newMarker } from "../support/capture.ts";
import { vtepOf } from "../support/cluster.ts";
import { IPSEC_PORT, IpsecHosts } from "../support/ipsec-hosts.ts";
import { loadModules } from "./modules.ts";

/**
 * What a host can do with a key of its own. Keys are put by hand, so that the test has them: host 1 has one of host 2 and
 * one of host 3, and listens. Host 3 is a member of the cluster that tries.
 */
export function ipsecOwnKey(family: Family): void {
  let world: IpsecHosts;
  const newKey = (): PairKey => new PairKey(systemRandom.bytes(PAIR_KEY_BYTES));
  /** Fresh for each test: what was sent with one cannot be sent again. */
  let keys: { of2: PairKey; of3: PairKey };
  const vtep = (k: number) => vtepOf(k, family);
  const of2: SaName = { source: vtep(2), destination: vtep(1), spi: 0x2000 };
  const of3: SaName = { source: vtep(3), destination: vtep(1), spi: 0x3000 };
  /** Host 3's kernel, speaking from its own address, and from that of host 2. */
  let own: LinuxIpsec;
  let posing: LinuxIpsec;

  beforeAll(async () => {
    loadModules();
    world = new IpsecHosts(3, family);
    await world.open(2);
    const hostNetns = world.netns(3);
    own = new LinuxIpsec({ local: vtep(3), udpPort: IPSEC_PORT, hostNetns });
    posing = new LinuxIpsec({ local: vtep(2), udpPort: IPSEC_PORT, hostNetns });
    // The first of a kernel takes long in software.
    await own.check();
    await posing.setPolicies();
    await own.setPolicies();
    const prefix = family === 4 ? "32" : "128 nodad";
    world.hosts.in(world.netns(3), `ip address add dev lo ${vtep(2)}/${prefix}`);
  }, 300_000);
  afterAll(async () => {
    await own?.close();
    await posing?.close();
    await world.close();
  });
  beforeEach(async () => {
    keys = { of2: newKey(), of3: newKey() };
    const [one, two] = [world.member(1).ipsecKernel, world.member(2).ipsecKernel];
    for (const kernel of [own, one, two]) await kernel.remove(await kernel.list());
    await one.put(of2, keys.of2);
    await one.put(of3, keys.of3);
    await two.put(of2, keys.of2);
  });

  const frame = (): Buffer => world.frame(2, 1, newMarker());
  const as = (k: number): string => `,bind=${family === 4 ? vtep(k) : `[${vtep(k)}]`}`;

  /** What reached the container, and which of the kernel's error counters rose, while this was done. */
  async function outcome(work: () => void | Promise<void>) {
    const before = { errors: world.xfrmErrors(1), arrived: world.received(1) };
    await work();
    const after = world.xfrmErrors(1);
    const names = Object.keys(after).filter((name) => after[name] !== before.errors[name]);
    return { arrived: world.received(1) - before.arrived, errors: names };
  }

  test("the owner's packet arrives; the same one again does not", async () => {
    let sent: Buffer[] = [];
    const first = await outcome(async () => {
      sent = await world.captured(1, () => {
        world.inject(world.netns(2), 1, frame());
        return Promise.resolve();
      });
    });
    expect(first).toEqual({ arrived: 1, errors: [] });
    const packets = sent.filter(isEsp);
    expect(packets.length).toBe(1);
    const again = await outcome(() => world.hosts.deliver(1, packets[0]!));
    expect(again).toEqual({ arrived: 0, errors: ["XfrmInStateSeqError"] });
  });

  test("from its own address it is who it is: what it says for another's container is dropped", async () => {
    await own.put(of3, keys.of3);
    const { stranger = 0 } = await world.member(1).guards.counters();
    expect(await outcome(() => world.inject(world.netns(3), 1, frame(), as(3)))).toEqual({
      arrived: 0,
      errors: [],
    });
    expect(await world.member(1).guards.counters()).toMatchObject({ stranger: stranger + 1 });
  });

  test("under another's address its key, though right, is refused", async () => {
    await posing.put({ ...of3, source: vtep(2) }, keys.of3);
    expect(await outcome(() => world.inject(world.netns(3), 1, frame(), as(2)))).toEqual({
      arrived: 0,
      errors: ["XfrmInStateMismatch"],
    });
  });

  test("another's SPI with its own key is refused", async () => {
    await posing.put(of2, keys.of3);
    expect(await outcome(() => world.inject(world.netns(3), 1, frame(), as(2)))).toEqual({
      arrived: 0,
      errors: ["XfrmInStateProtoError"],
    });
    // With the other's key it would have arrived: the test can fail.
    await posing.remove([of2]);
    await posing.put(of2, keys.of2);
    expect(await outcome(() => world.inject(world.netns(3), 1, frame(), as(2)))).toEqual({
      arrived: 1,
      errors: [],
    });
  });
}
