import { describe, expect, test } from "vitest";
import { allotBlock, grantAddress, returnBlock } from "../../../controller/core/blocks.ts";
import { admitNode, revokeNode } from "../../../controller/core/admission.ts";
import {
  createNetwork,
  nameNetwork,
  removeNetwork,
  rotateKeys,
} from "../../../controller/core/networks.ts";
import { released } from "../../../controller/core/quarantine.ts";
import { newCluster, type ControllerRecord } from "../../../controller/core/record.ts";
import { checkToken, issueToken, useToken } from "../../../controller/core/tokens.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { DockerNetworkId } from "../../../shared/ids.ts";
import { Cidr, cidrOverlaps, Ip, numberToIp, rangeOf } from "../../../shared/ip.ts";
import { node, nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const context = { wallMs: 1_000_000, random: seededRandom(1) };

function cluster(nodes: number): ControllerRecord {
  let record = newCluster(
    { controllerPeer: nodeId(9), controllerNode: nodeId(1), address: Ip.parse("198.51.100.1") },
    context,
  );
  for (let k = 1; k <= nodes; k++)
    record = admitNode(record, nodeId(k), node(k), undefined, 0).record;
  return record;
}

const plain = { subnets: [], internal: false, attachable: true, labels: {}, driverOptions: {} };
const subnet = Cidr.parse("10.7.0.0/24");

function withApp(nodes: number, dockerIpam = false) {
  const request = { ...plain, name: "app", subnets: [{ subnet, dockerIpam }] };
  return createNetwork(cluster(nodes), nodeId(1), request, context);
}

describe("tokens", () => {
  const issued = issueToken(cluster(1), { ttlMs: 1000, uses: 1 }, sha256, context);
  const shown = issued.result;

  test("hold until they expire or are used up, and only with their secret", () => {
    const token = checkToken(issued.record, shown, sha256, context.wallMs + 999);
    expect(token.id).toBe(shown.id);
    expect(() => checkToken(issued.record, shown, sha256, context.wallMs + 1000)).toThrow(
      /expired/,
    );
    const used = useToken(issued.record, token);
    const left = checkToken(used, shown, sha256, context.wallMs);
    expect(() => useToken(used, left)).toThrow(/used up/);
    const wrong = { ...shown, secret: new Uint8Array(32) };
    expect(() => checkToken(issued.record, wrong, sha256, context.wallMs)).toThrow(/not one of/);
  });

  test("the secret is nowhere in the record", () => {
    expect(JSON.stringify(issued.record)).not.toContain(Buffer.from(shown.secret).toString("hex"));
    expect(JSON.stringify(issued.record)).toContain(
      Buffer.from(sha256.sha256(shown.secret)).toString("hex"),
    );
  });
});

describe("admission", () => {
  test("each host gets its own index, also after another left; twice is once", () => {
    const three = cluster(3);
    const { record } = revokeNode(three, "h3", 0);
    const four = admitNode(record, nodeId(4), node(4), undefined, 0);
    expect(four.result.index).toBe(4);
    const again = admitNode(four.record, nodeId(4), node(4), undefined, 99);
    expect(again.record.state.nodes.map(({ index }) => index)).toEqual([1, 2, 4]);
  });

  test("a name or an address that another host has is refused", () => {
    expect(() =>
      admitNode(cluster(2), nodeId(3), { ...node(3), name: "h2" }, undefined, 0),
    ).toThrow(/another host is called h2/);
    expect(() =>
      admitNode(cluster(2), nodeId(3), { ...node(3), vtep: node(2).vtep }, undefined, 0),
    ).toThrow(/h2 has the address/);
  });

  test("a revoked key does not come back; its blocks are nobody's for a while, then free", () => {
    const app = withApp(3);
    const { id } = app.result;
    const allotted = allotBlock(app.record, nodeId(2), id, 4);
    const { wallMs } = context;
    const untilMs = wallMs + 1000;
    const { record } = revokeNode(allotted.record, "h2", untilMs);
    expect(record.state.blocks).toEqual([]);
    expect(() => admitNode(record, nodeId(2), node(2), undefined, 0)).toThrow(/revoked/);
    expect(() => allotBlock(record, nodeId(2), id, 4)).toThrow(/no longer/);
    const { block } = allotted.result;
    const ip = numberToIp(rangeOf(block).first + 1n, 4);
    const kept = released(record, untilMs - 1);
    expect(kept).toBe(record);
    expect(allotBlock(kept, nodeId(3), id, 4).result.block).not.toBe(block);
    expect(() => grantAddress(kept, nodeId(3), id, ip)).toThrow(/a host that was removed/);
    const free = released(record, untilMs);
    expect(free.quarantine).toBeUndefined();
    expect(allotBlock(free, nodeId(3), id, 4).result.block).toBe(block);
    expect(grantAddress(free, nodeId(3), id, ip).result.node).toBe(nodeId(3));
    const ended = removeNetwork(record, nodeId(1), id).record;
    expect(released(ended, wallMs).quarantine).toBeUndefined();
  });

  test("the controller's own host stays, and it is said how it can go", () => {
    const next = (text: RegExp) =>
      expect.objectContaining({ code: "FORBIDDEN", next: expect.stringMatching(text) as string });
    expect(() => revokeNode(cluster(2), "h1", 0)).toThrow(next(/controller promote/));
    expect(() => revokeNode(cluster(1), "h1", 0)).toThrow(next(/uninstall\.sh --purge --force/));
  });
});

describe("networks", () => {
  test("chosen subnets never overlap each other or what hosts use", () => {
    let record = cluster(1);
    const taken: Cidr[] = [record.state.settings.gwbridgeSubnet];
    for (let i = 0; i < 100; i++) {
      const made = createNetwork(record, nodeId(1), { ...plain, name: `n${i}` }, context);
      const chosen = made.result.subnets[0]?.subnet as Cidr;
      expect(taken.filter((other) => cidrOverlaps(other, chosen))).toEqual([]);
      taken.push(chosen);
      record = made.record;
    }
  });

  test("one engine network is one network, however often Docker asks", () => {
    const createdAs = DockerNetworkId.parse("ab".repeat(32));
    const first = createNetwork(cluster(1), nodeId(1), { ...plain, createdAs }, context);
    const second = createNetwork(first.record, nodeId(1), { ...plain, createdAs }, context);
    expect(second.result.id).toBe(first.result.id);
    expect(second.record.state.revision).toBe(first.record.state.revision);
  });

  test("a name is told later, once, and not twice in the cluster", () => {
    const app = withApp(1);
    const other = createNetwork(app.record, nodeId(1), plain, context);
    expect(() =>
      nameNetwork(other.record, nodeId(1), other.result.id, {
        name: "app",
        labels: {},
        attachable: true,
      }),
    ).toThrow(/has a network app already/);
    const named = nameNetwork(other.record, nodeId(1), other.result.id, {
      name: "web",
      labels: { a: "b" },
      attachable: true,
    });
    expect(named.result).toMatchObject({ name: "web", labels: { a: "b" } });
  });

  test.each([
    [{ subnets: [{ subnet: Cidr.parse("10.255.240.0/24") }] }, /overlaps 10.255.240.0\/20/],
    [{ subnets: [{ subnet: Cidr.parse("10.7.0.0/30") }] }, /too small/],
    [{ subnets: [{ subnet, gateway: Ip.parse("10.8.0.1") }] }, /gateway 10.8.0.1/],
    [{ subnets: [{ subnet, gateway: Ip.parse("10.7.0.255") }] }, /gateway/],
    [{ subnets: [{ subnet, range: Cidr.parse("10.8.0.0/25") }] }, /range/],
    [{ driverOptions: { encrypted: "maybe" } }, /encrypted=maybe is neither true nor false/],
    [{ driverOptions: { encrypted: "", mtu: "1400" } }, /does not fit: 576 to 1390/],
    [{ driverOptions: { encryption: "rot13" } }, /not one of/],
    [{ driverOptions: { mtu: "9000" } }, /does not fit: 576 to 1450/],
    [{ driverOptions: { vlan: "7" } }, /knows no network option vlan/],
    [{ driverOptions: { "dns.unhealthy": "drop" } }, /drop is not one of leave-out, include/],
    [{ driverOptions: { "dns.unhealthy": "" } }, /dns.unhealthy= is not one of/],
    [{ driverOptions: { "dns.healthy": "include" } }, /knows no network option dns.healthy/],
  ])("refused with its reason: %j", (change, reason) => {
    expect(() => createNetwork(cluster(1), nodeId(1), { ...plain, ...change }, context)).toThrow(
      reason,
    );
  });

  test.each([
    [{}, "none", 1450],
    [{ encrypted: "false" }, "none", 1450],
    [{ encryption: "none" }, "none", 1450],
    [{ encrypted: "" }, "wireguard", 1390],
    [{ encrypted: "true" }, "wireguard", 1390],
    [{ encryption: "wireguard" }, "wireguard", 1390],
    [{ encryption: "ipsec" }, "ipsec", 1416],
    [{ encryption: "ipsec", mtu: "1300" }, "ipsec", 1300],
  ])("made with %j: %s, %i bytes", (driverOptions, encryption, mtuBytes) => {
    const request = { ...plain, name: "app", driverOptions };
    const made = createNetwork(cluster(1), nodeId(1), request, context).result;
    expect(made).toMatchObject({ encryption, mtuBytes });
  });

  test.each([
    [{}, "leave-out"],
    [{ "dns.unhealthy": "leave-out" }, "leave-out"],
    [{ "dns.unhealthy": "include" }, "include"],
  ])("names of unhealthy containers, made with %j: %s", (driverOptions, unhealthyNames) => {
    const request = { ...plain, name: "app", driverOptions };
    const made = createNetwork(cluster(1), nodeId(1), request, context).result;
    // The option itself is kept too: views on other engines must have it.
    expect(made).toMatchObject({ unhealthyNames, driverOptions });
  });

  test("a removed one takes blocks and key along; its VNI is not used again", () => {
    const app = withApp(1, true);
    const { record } = removeNetwork(app.record, nodeId(1), app.result.id);
    expect(record.state.blocks).toEqual([]);
    expect(record.networkKeys).toEqual({});
    const next = createNetwork(record, nodeId(1), { ...plain, name: "app" }, context);
    expect(next.result.vni).toBe(app.result.vni + 1);
  });

  test("only its maker names a network, once; a restricted host ends only its own", () => {
    const made = createNetwork(cluster(2), nodeId(1), plain, context);
    const named = { name: "web", labels: {}, attachable: true };
    expect(() => nameNetwork(made.record, nodeId(2), made.result.id, named)).toThrow(
      /not this host's/,
    );
    const web = nameNetwork(made.record, nodeId(1), made.result.id, named);
    expect(() =>
      nameNetwork(web.record, nodeId(1), web.result.id, { ...named, name: "other" }),
    ).toThrow(/not this host's/);
    const { record } = admitNode(web.record, nodeId(3), node(3), ["a"], 0);
    expect(() => removeNetwork(record, nodeId(3), web.result.id)).toThrow(/restricted/);
    expect(removeNetwork(record, nodeId(2), web.result.id).record.state.networks).toEqual([]);
  });

  test("rotation raises the epoch and changes the key", () => {
    const { record, result } = withApp(1);
    const rotated = rotateKeys(record, [result.id], context);
    expect(rotated.networkKeys[result.id]).not.toBe(record.networkKeys[result.id]);
    expect(rotated.state.networks[0]?.keyEpoch).toBe(2);
  });
});

describe("a network's families and MTU", () => {
  const request = (subnets: string[], driverOptions: Record<string, string> = {}) => ({
    ...plain,
    driverOptions,
    subnets: subnets.map((text) => ({ subnet: Cidr.parse(text) })),
  });
  const made = (subnets: string[], options?: Record<string, string>, nodes = cluster(2)) =>
    createNetwork(nodes, nodeId(1), request(subnets, options), context).result;

  test("IPv4 always; IPv6 where a subnet of it is given; one subnet each", () => {
    expect(made(["fd00:7::/64"]).subnets.map(({ gateway }) => gateway)).toEqual([
      expect.stringMatching(/^10\./),
      "fd00:7::1",
    ]);
    expect(() => made(["10.7.0.0/24", "10.8.0.0/24"])).toThrow(/one subnet a family.*10\.8\.0\.0/);
  });

  test("the smallest host decides the MTU, and whether there can be IPv6", () => {
    const small = { ...node(2), underlayMtuBytes: 1280 };
    const record = admitNode(cluster(1), nodeId(2), small, undefined, 0).record;
    expect(made(["10.7.0.0/24"], {}, record).mtuBytes).toBe(1230);
    expect(() => made(["fd00:7::/64"], {}, record)).toThrow(/IPv6 needs an MTU of 1280.*1230/);
    expect(() => made([], { mtu: "1400" }, record)).toThrow(/576 to 1230/);
    expect(made([], { mtu: "1000" }, record).mtuBytes).toBe(1000);
  });

  test("an IPv6 underlay takes 20 bytes more, and its hosts must have IPv6 addresses", () => {
    const address = Ip.parse("2001:db8::1");
    const empty = newCluster(
      { controllerPeer: nodeId(9), controllerNode: nodeId(1), address },
      context,
    );
    expect(() => admitNode(empty, nodeId(1), node(1), undefined, 0)).toThrow(/not an IPv6 address/);
    const facts = { ...node(1), address, vtep: address };
    const { record } = admitNode(empty, nodeId(1), facts, undefined, 0);
    expect(made([], {}, record).mtuBytes).toBe(1430);
  });

  test.each([
    ["", true],
    ["true", true],
    ["false", false],
  ])("multicast=%j is %s", (text, multicast) => {
    expect(made([], { multicast: text }).multicast).toBe(multicast);
    expect(() => made([], { multicast: "perhaps" })).toThrow(/neither true nor false/);
  });
});

describe("blocks", () => {
  test("8 addresses, then as many as the host has; hosts never share one", () => {
    let { record, result } = withApp(3);
    const sizes: string[] = [];
    for (const k of [1, 1, 1, 2, 3, 2]) {
      const made = allotBlock(record, nodeId(k), result.id, 4);
      sizes.push(made.result.block.split("/")[1] ?? "");
      record = made.record;
    }
    expect(sizes).toEqual(["29", "29", "28", "29", "29", "29"]);
    const blocks = record.state.blocks.map(({ block }) => block);
    for (const a of blocks) expect(blocks.filter((b) => cidrOverlaps(a, b))).toEqual([a]);
  });

  test("every usable address of the dynamic ranges is given before it is full", () => {
    let { record, result } = withApp(1);
    let addresses = 0;
    for (;;) {
      try {
        const made = allotBlock(record, nodeId(1), result.id, 4);
        addresses += 2 ** (32 - Number(made.result.block.split("/")[1]));
        record = made.record;
      } catch (error) {
        expect((error as Error).message).toMatch(/every address/);
        break;
      }
    }
    expect(addresses).toBe(192);
  });

  test("IPv6: blocks of its own subnet, to the last address of the range", () => {
    const subnets = [
      { subnet },
      { subnet: Cidr.parse("fd00:7::/64"), range: Cidr.parse("fd00:7::f0/124") },
    ];
    let { record, result } = createNetwork(cluster(2), nodeId(1), { ...plain, subnets }, context);
    const blocks: string[] = [];
    for (const k of [1, 2]) {
      const made = allotBlock(record, nodeId(k), result.id, 6);
      blocks.push(made.result.block);
      record = made.record;
    }
    expect(blocks).toEqual(["fd00:7::f0/125", "fd00:7::f8/125"]);
    expect(() => allotBlock(record, nodeId(1), result.id, 6)).toThrow(
      /every address of fd00:7::f0/,
    );
    const granted = grantAddress(record, nodeId(2), result.id, Ip.parse("fd00:7::9"));
    expect(granted.result.block).toBe("fd00:7::9/128");
    expect(() => grantAddress(record, nodeId(2), result.id, Ip.parse("fd00:7::"))).toThrow(
      /no host address/,
    );
    const ipv4 = withApp(1);
    expect(() => allotBlock(ipv4.record, nodeId(1), ipv4.result.id, 6)).toThrow(/no IPv6 subnet/);
  });

  test("Docker's own IPAM has the lower half on the host that made the network", () => {
    const { record, result } = withApp(2, true);
    expect(record.state.blocks).toEqual([
      { network: result.id, block: "10.7.0.0/25", node: nodeId(1) },
    ]);
    expect(allotBlock(record, nodeId(2), result.id, 4).result.block).toBe("10.7.0.128/29");
    expect(() => grantAddress(record, nodeId(2), result.id, Ip.parse("10.7.0.9"))).toThrow(
      expect.objectContaining({ next: expect.stringContaining("the IPAM driver overlay-ts") }),
    );
  });

  test("Docker's own IPAM keeps to its range, told with the name: each half of it", () => {
    const request = { ...plain, subnets: [{ subnet, dockerIpam: true }] };
    const made = createNetwork(cluster(2), nodeId(1), request, context);
    const named = nameNetwork(made.record, nodeId(1), made.result.id, {
      name: "app",
      labels: {},
      attachable: true,
      dockerRanges: [Cidr.parse("10.7.0.64/26")],
    });
    expect(named.record.state.blocks).toEqual([
      { network: made.result.id, block: "10.7.0.64/27", node: nodeId(1) },
    ]);
    expect(allotBlock(named.record, nodeId(2), made.result.id, 4).result.block).toBe(
      "10.7.0.96/29",
    );
    const low = Ip.parse("10.7.0.9");
    expect(grantAddress(named.record, nodeId(2), made.result.id, low).result.node).toBe(nodeId(2));
  });

  test("until Docker has told its range, each address in use is given by itself", () => {
    const request = { ...plain, subnets: [{ subnet, dockerIpam: true }] };
    const made = createNetwork(cluster(2), nodeId(1), request, context);
    const low = Ip.parse("10.7.0.9");
    const granted = grantAddress(made.record, nodeId(1), made.result.id, low);
    expect(granted.result.block).toBe("10.7.0.9/32");
    expect(grantAddress(granted.record, nodeId(1), made.result.id, low).record.state.blocks).toBe(
      granted.record.state.blocks,
    );
    expect(() => grantAddress(granted.record, nodeId(2), made.result.id, low)).toThrow(
      /of host h1/,
    );
    const named = nameNetwork(granted.record, nodeId(1), made.result.id, {
      name: "app",
      labels: {},
      attachable: true,
      dockerRanges: [Cidr.parse("10.7.0.64/26")],
    });
    expect(named.record.state.blocks.map(({ block }) => block)).toEqual([
      "10.7.0.64/27",
      "10.7.0.9/32",
    ]);
    expect(() => grantAddress(named.record, nodeId(2), made.result.id, low)).toThrow(/of host h1/);
    const inRange = Ip.parse("10.7.0.65");
    expect(grantAddress(named.record, nodeId(1), made.result.id, inRange).record.state.blocks).toBe(
      named.record.state.blocks,
    );
  });

  test("an address by name: free, one's own, another's, none", () => {
    const app = withApp(2);
    const ip = Ip.parse("10.7.0.9");
    const granted = grantAddress(app.record, nodeId(1), app.result.id, ip);
    expect(granted.result.block).toBe("10.7.0.9/32");
    // A revision on: see `give`.
    expect(grantAddress(granted.record, nodeId(1), app.result.id, ip).record.state.blocks).toBe(
      granted.record.state.blocks,
    );
    expect(() => grantAddress(granted.record, nodeId(2), app.result.id, ip)).toThrow(/of host h1/);
    for (const none of ["10.7.0.0", "10.7.0.255", "10.7.0.1", "10.8.0.1"])
      expect(() => grantAddress(app.record, nodeId(1), app.result.id, Ip.parse(none))).toThrow(
        /no host address/,
      );
  });

  test("a reserved address is nobody's, and no block is made of nothing else", () => {
    const reserved = [64, 65, 66, 67, 68, 69, 70, 71, 200].map((n) => Ip.parse(`10.7.0.${n}`));
    const request = { ...plain, name: "app", subnets: [{ subnet, reserved }] };
    const app = createNetwork(cluster(2), nodeId(1), request, context);
    expect(app.result.subnets[0]?.reserved).toEqual(reserved);
    for (const ip of reserved)
      expect(() => grantAddress(app.record, nodeId(1), app.result.id, ip)).toThrow(
        /is reserved \(--aux-address\) on network app/,
      );
    expect(allotBlock(app.record, nodeId(1), app.result.id, 4).result.block).toBe("10.7.0.72/29");
  });

  test("a block that was given again is not taken by what was said of it before", () => {
    const app = withApp(2);
    const [one, network] = [nodeId(1), app.result.id];
    const { record: first, result } = allotBlock(app.record, one, network, 4);
    const { block } = result;
    const asked = first.state.revision;
    const returned = returnBlock(first, one, network, block, asked).record;
    const again = allotBlock(returned, one, network, 4);
    expect(again.result.block).toBe(block);
    // The same question, which had been on its way for long.
    expect(returnBlock(again.record, one, network, block, asked).record).toBe(again.record);
    const kept = grantAddress(first, one, network, numberToIp(rangeOf(block).first + 1n, 4));
    expect(kept.result).toEqual(result);
    expect(returnBlock(kept.record, one, network, block, asked).record).toBe(kept.record);
    const { revision } = kept.record.state;
    expect(returnBlock(kept.record, one, network, block, revision).record.state.blocks).toEqual([]);
  });

  test("only the holder gives a block back", () => {
    const app = withApp(2);
    const { record, result } = allotBlock(app.record, nodeId(1), app.result.id, 4);
    expect(returnBlock(record, nodeId(2), app.result.id, result.block).record).toBe(record);
    expect(returnBlock(record, nodeId(1), app.result.id, result.block).record.state.blocks).toEqual(
      [],
    );
  });

  test("a host that its token did not allow on the network gets nothing of it", () => {
    const app = withApp(1);
    const { record } = admitNode(app.record, nodeId(2), node(2), ["other"], 0);
    expect(() => allotBlock(record, nodeId(2), app.result.id, 4)).toThrow(
      /not allowed on network app/,
    );
  });
});
