import { describe, expect, test } from "vitest";
import {
  type ActualNetwork,
  type DesiredNetwork,
  portLink,
  type RemoteEntry,
} from "../../../agent/core/data-plane/kernel-state.ts";
import { differences } from "../../../agent/core/data-plane/differences.ts";
import { EndpointId } from "../../../shared/ids.ts";
import { Ip } from "../../../shared/ip.ts";
import { Mac } from "../../../shared/mac.ts";
import { dataPlane, endpoint, grouped, present, vtepOf } from "../../support/cluster.ts";

/** What `verify` says of each thing that can be wrong in the kernel, by words that name it. */

const remote = (n: number): RemoteEntry => {
  const { mac, ipv4 } = endpoint(2, n);
  return { mac, vtep: vtepOf(2), ips: [ipv4!] };
};
const remotes = [remote(5), remote(6)];
const own = endpoint(1, 5);
const desired: DesiredNetwork = {
  ...dataPlane(1),
  ports: [{ endpoint: own.id, mac: own.mac, ips: [own.ipv4!] }],
  remotes: grouped(remotes),
  flood: [vtepOf(2)],
};
const asItShould: ActualNetwork = {
  network: desired.network,
  present: true,
  device: desired,
  faults: [],
  ports: desired.ports,
  unfinishedPorts: [],
  vxlanFdb: remotes.map(({ mac, vtep }) => ({ mac, vtep })),
  bridgeFdb: remotes.map(({ mac }) => mac),
  neighbours: remotes.map(({ ips, mac }) => ({ ip: ips[0]!, mac })),
  flood: desired.flood,
};
const said = (changes: Partial<ActualNetwork>): string[] =>
  differences({ ...asItShould, ...changes }, present(desired));

test("nothing of a network that is as it should be, or neither wanted nor there", () => {
  expect(said({})).toEqual([]);
  const none = { ...asItShould, present: false, device: undefined };
  expect(differences(none, { kind: "absent" })).toEqual([]);
});

const stranger = { ip: Ip.parse("10.192.9.9"), mac: Mac.parse("02:00:00:00:00:09") };
const unknown = EndpointId.parse("99".repeat(32));

test.each<[string, Partial<ActualNetwork>, string]>([
  [
    "a missing FDB entry",
    { vxlanFdb: asItShould.vxlanFdb.slice(1) },
    "the VXLAN device has no entry for 10.192.2.5",
  ],
  [
    "an FDB entry that leads to another host",
    { vxlanFdb: asItShould.vxlanFdb.map(({ mac }) => ({ mac, vtep: vtepOf(3) })) },
    "the VXLAN device has 10.192.2.5 at 198.51.100.3, not 198.51.100.2, 10.192.2.6 at 198.51.100.3, not 198.51.100.2",
  ],
  [
    "an FDB entry too many",
    { vxlanFdb: [...asItShould.vxlanFdb, { mac: stranger.mac, vtep: vtepOf(3) }] },
    "the VXLAN device forwards to 02:00:00:00:00:09 at 198.51.100.3, where no container is",
  ],
  [
    "a missing half of an FDB entry",
    { bridgeFdb: asItShould.bridgeFdb.slice(1) },
    "the bridge has no forwarding entry for 10.192.2.5",
  ],
  [
    "missing neighbours",
    { neighbours: [] },
    "the bridge has no neighbour entry for 10.192.2.5, 10.192.2.6",
  ],
  [
    "a neighbour too many",
    { neighbours: [...asItShould.neighbours, stranger] },
    "the bridge answers for 10.192.9.9, which no container has",
  ],
  [
    "a missing port",
    { ports: [] },
    "the port of container 10.192.1.5 is missing, down, not filtered or not as it was made",
  ],
  [
    "a port with another address",
    { ports: desired.ports.map((port) => ({ ...port, ips: [stranger.ip] })) },
    "the port of container 10.192.1.5 has another MAC or address",
  ],
  [
    "a port that a crash left unfinished",
    { unfinishedPorts: [portLink(unknown)] },
    `there is a port ${portLink(unknown)}, which no container here has`,
  ],
  [
    "a port too many",
    { ports: [...desired.ports, { endpoint: unknown, mac: stranger.mac, ips: [] }] },
    `there is a port ${portLink(unknown)}, which no container here has`,
  ],
  ["no copies of broadcasts", { flood: [] }, "broadcasts are not copied to 198.51.100.2"],
  [
    "copies for a host that is not there",
    { flood: [...desired.flood, vtepOf(3)] },
    "broadcasts are copied to 198.51.100.3, which is not on it",
  ],
  [
    "a bridge that is down",
    { device: undefined },
    "its bridge or its VXLAN device is missing or down",
  ],
  ["another MTU", { device: { ...desired, mtuBytes: 1400 } }, "its MTU is 1400 and should be 1450"],
  [
    "a gateway that is gone",
    { device: { ...desired, gateways: [] } },
    "its gateway is missing and should be 10.192.0.1/16 fd00:192::1/64",
  ],
  ["a setting that is another", { faults: ["its setting s is 1"] }, "its setting s is 1"],
  ["no namespace", { present: false, device: undefined }, "nothing of it is in the kernel"],
])("%s is the one thing said", (_what, changes, text) => {
  expect(said(changes)).toEqual([text]);
});

describe("what does not fit one line", () => {
  test("several things are said each by itself", () => {
    expect(said({ device: undefined, neighbours: [], ports: [] })).toHaveLength(3);
  });

  test("a thousand entries are counted, and three named", () => {
    const many = Array.from({ length: 1000 }, (_, i) => {
      const { mac, ipv4 } = endpoint(2 + Math.floor(i / 200), 2 + (i % 200));
      return { mac, vtep: vtepOf(2), ips: [ipv4!] };
    });
    const texts = differences(
      { ...asItShould, ...nothing },
      present({ ...desired, remotes: grouped(many) }),
    );
    expect(texts[0]).toBe(
      "the VXLAN device has no entry for 10.192.2.2, 10.192.2.3, 10.192.2.4 and 997 more",
    );
    expect(texts).toHaveLength(3);
  });
});

const nothing = { vxlanFdb: [], bridgeFdb: [], neighbours: [] };

test("a namespace that nobody wants is left over", () => {
  expect(differences(asItShould, { kind: "absent" })).toEqual(["its namespace is left over"]);
  // Nobody has said yet what belongs there.
  expect(differences(asItShould, { kind: "keep" })).toEqual([]);
});
