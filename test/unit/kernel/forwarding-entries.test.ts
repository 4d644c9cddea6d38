import { describe, expect, test } from "vitest";
import { entriesAmong } from "../../../agent/kernel/forwarding-entries.ts";
import type { Neighbour } from "../../../agent/kernel/netlink/neighbour.ts";
import type { Link } from "../../../agent/kernel/netlink/route.ts";
import { endpoint, vtepOf } from "../../support/cluster.ts";

const link = (index: number): Link => ({
  index,
  name: "",
  kind: "",
  alias: "",
  mtuBytes: 1450,
  up: true,
  master: 0,
  mac: undefined,
  portFlags: new Map(),
  snoops: false,
  peer: undefined,
  isolated: false,
  vxlan: undefined,
});
const devices = { bridge: link(2), vxlan: link(3) };
const { mac, ipv4 } = endpoint(2, 5);

const entry = (changes: Partial<Neighbour>): Neighbour => ({
  index: 3,
  extLearned: true,
  isStatic: false,
  master: false,
  mac,
  flood: false,
  destination: vtepOf(2),
  ...changes,
});
const toEverybody = { mac: undefined, flood: true } as const;

const nothing = { vxlanFdb: [], bridgeFdb: [], neighbours: [], flood: [] };

describe("entries of a network", () => {
  test("the two halves of the FDB, the neighbours and the copies come apart", () => {
    const fdb = [entry({}), entry({ master: true, destination: undefined }), entry(toEverybody)];
    const neighbours = [entry({ index: 2, destination: ipv4 })];
    expect(entriesAmong(devices, fdb, neighbours)).toEqual({
      vxlanFdb: [{ mac, vtep: vtepOf(2) }],
      bridgeFdb: [mac],
      neighbours: [{ ip: ipv4, mac }],
      flood: [vtepOf(2)],
    });
  });

  test.each([
    ["of another device", { index: 4 }],
    ["that somebody else made", { extLearned: false }],
  ])("one %s is none", (_, changes) => {
    const fdb = [entry(changes), entry({ ...toEverybody, ...changes })];
    expect(entriesAmong(devices, fdb, [entry({ index: 2, ...changes })])).toEqual(nothing);
  });

  test("without devices there are none", () => {
    expect(
      entriesAmong({ bridge: undefined, vxlan: undefined }, [entry({})], [entry({ index: 2 })]),
    ).toEqual(nothing);
  });
});
