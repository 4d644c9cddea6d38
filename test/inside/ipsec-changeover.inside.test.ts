import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Tables } from "../../agent/core/tables/tables.ts";
import { IpsecClass } from "../../agent/encryption/ipsec/class.ts";
import { LinuxIpsec } from "../../agent/encryption/ipsec/linux-ipsec.ts";
import type { ClusterState } from "../../shared/cluster-state.ts";
import type { Ip } from "../../shared/ip.ts";
import { systemClock, systemRandom } from "../../shared/node/system.ts";
import { silentLog } from "../../shared/ports.ts";
import { isEsp, onPort } from "../support/capture.ts";
import { app, clusterState, hostDocument, node, nodeId, vtepOf } from "../support/cluster.ts";
import { lostDuring } from "../support/hosts.ts";
import { IPSEC_PORT, type IpsecHost, IpsecHosts, SECRET } from "../support/ipsec-hosts.ts";
import { eventually } from "../support/lab-host.ts";
import { loadModules } from "./modules.ts";

const MINUTES_MS = 180_000;
/** The second host's, before and after. */
const [A, B] = [vtepOf(2), vtepOf(52)];

function state(revision: number, vtep: Ip): ClusterState {
  const nodes = [node(1), { ...node(2), address: vtep, vtep }];
  const network = { ...app, id: SECRET.id, vni: SECRET.vni, encryption: "ipsec" as const };
  return clusterState(2, { revision, nodes, networks: [network], blocks: [] });
}

/** A host's class of encryption, and what follows it in the kernel: as the agent's reconciler does. */
class Member {
  readonly host: IpsecHost;
  readonly class: IpsecClass;
  readonly tables = new Tables();
  /** As long as peers may not have heard of the host's new VTEP. */
  sendsFrom: Ip | undefined;
  readonly #world: IpsecHosts;
  #written: Promise<unknown> = Promise.resolve();
  #failure: unknown;

  constructor(world: IpsecHosts, k: number) {
    this.#world = world;
    this.host = world.member(k);
    this.tables.mergeState(state(1, A));
    for (const j of [1, 2]) this.tables.mergeHost(hostDocument(j, { hosting: [SECRET.id] }));
    this.class = new IpsecClass({
      self: nodeId(k),
      tables: this.tables,
      stateIsFresh: () => true,
      lost: () => new Set(),
      handover: { sendsFrom: () => this.sendsFrom, isHere: () => true },
      makeKernel: (local, udpPort) =>
        new LinuxIpsec({ local, udpPort, hostNetns: this.host.netns }),
      channel: world.channels.of(nodeId(k)),
      opened: () => Promise.resolve(),
      classDown: () => Promise.resolve(),
      pathsChanged: () => this.#follow(),
      seenChanged: () => {},
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
    });
  }

  hear(newer: ClusterState): void {
    this.tables.mergeState(newer);
    this.class.dirty();
  }

  /** The kernel has what the class said last. @throws what it refused. */
  async written(): Promise<void> {
    await this.#written;
    if (this.#failure !== undefined) throw this.#failure;
  }

  #follow(): void {
    const paths = this.class.paths();
    const other = 3 - this.host.k;
    const remote = paths?.remote.get(nodeId(other));
    this.#written = this.#written
      .then(async () => {
        if (paths !== undefined) await this.#world.extend(this.host, "secret", paths.local);
        if (remote !== undefined) await this.#world.putRemote(this.host, other, remote);
      })
      .catch((error: unknown) => (this.#failure = error));
  }
}

describe("a host that has two addresses changes over under ESP", () => {
  let world: IpsecHosts;
  let members: Member[] = [];
  beforeAll(async () => {
    loadModules();
    world = new IpsecHosts(2, 4);
    world.formerVteps.set(2, B);
    await world.open(2);
    members = [1, 2].map((k) => new Member(world, k));
    for (const member of members) member.class.dirty();
  }, MINUTES_MS);
  afterAll(async () => {
    for (const member of members) await member.class.stop();
    await world.close();
  });

  test(
    "no echo is lost, and nothing of them is in clear; from then on the former address is not needed",
    async () => {
      const [one, two] = members as [Member, Member];
      const reaches = (): Promise<number> => world.ping(1, 2, "secret");
      await eventually(MINUTES_MS, "an answer", async () => expect(await reaches()).toBe(3));
      world.hosts.in(two.host.netns, `ip address add ${B}/32 dev eth0`);
      two.sendsFrom = A;
      let lost = -1;
      const frames = await world.captured(1, async () => {
        lost = await lostDuring(
          world.member(2).container.secret,
          world.address(1, "secret"),
          [
            async () => {
              const { requests } = world.channels;
              two.hear(state(2, B));
              // It has asked for keys from its new address, of which the other has not heard.
              await eventually(MINUTES_MS, "a request", async () => {
                expect(world.channels.requests).toBeGreaterThan(requests);
              });
            },
            async () => {
              one.hear(state(2, B));
              await eventually(MINUTES_MS, "keys of the new address", async () => {
                expect(one.class.paths()?.remote.get(nodeId(2))).toBe(B);
              });
              await one.written();
            },
            async () => {
              two.sendsFrom = undefined;
              await eventually(MINUTES_MS, "the new address as source", async () => {
                two.class.dirty();
                expect(two.class.paths()?.local).toBe(B);
                expect(two.class.isChangingOver()).toBe(false);
              });
              await two.written();
            },
          ],
          0.01,
        );
      });
      expect(lost).toBe(0);
      expect(frames.filter(isEsp).length).toBeGreaterThan(10);
      expect(onPort(frames, IPSEC_PORT)).toEqual([]);
      world.hosts.in(two.host.netns, `ip address del ${A}/24 dev eth0`);
      world.hosts.in(two.host.netns, `ip route replace 198.51.100.0/24 dev eth0 src ${B}`);
      await eventually(MINUTES_MS, "an answer", async () => expect(await reaches()).toBe(3));
    },
    3 * MINUTES_MS,
  );
});
