import { expect, test } from "vitest";
import { narrowUnderlay, tellable, untold } from "../../../agent/core/liveness/underlay.ts";
import { Cidr } from "../../../shared/ip.ts";
import { sameUnderlay } from "../../../shared/underlay.ts";
import { app, clusterState } from "../../support/cluster.ts";

const subnets = (...texts: string[]) => texts.map((text) => Cidr.parse(text));
const facts = (underlayMtuBytes: number, ...texts: string[]) => ({
  underlayMtuBytes,
  ownSubnets: subnets(...texts),
});

test("which networks with containers here lose their large packets by the interface's MTU", () => {
  const other = { ...app, id: "0b".repeat(16) as typeof app.id, name: "small", mtuBytes: 1350 };
  const state = clusterState(2, { networks: [app, other] });
  const both = new Set([app.id, other.id]);
  expect(narrowUnderlay(state, 1500, both)).toBeUndefined();
  expect(narrowUnderlay(state, 9000, both)).toBeUndefined();
  expect(narrowUnderlay(state, 1400, both)).toEqual({
    code: "TOO_LARGE",
    message:
      "this host's interface has an MTU of 1400 bytes, and large packets of networks with containers here do not fit: app needs 1500",
    next: "give the interface a larger MTU (`ip link`), or make the networks anew with a smaller `-o mtu=`",
  });
  // No container here is on it: nobody loses anything.
  expect(narrowUnderlay(state, 1400, new Set([other.id]))).toBeUndefined();
});

test("facts are the same in whatever order, and an MTU that no host may have is not told", () => {
  const held = facts(1500, "10.1.0.0/16", "10.2.0.0/16");
  expect(sameUnderlay(held, facts(1500, "10.2.0.0/16", "10.1.0.0/16"))).toBe(true);
  expect(sameUnderlay(held, facts(1400, "10.2.0.0/16", "10.1.0.0/16"))).toBe(false);
  expect(sameUnderlay(held, facts(1500, "10.1.0.0/16"))).toBe(false);
  expect(sameUnderlay(held, facts(1500, "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"))).toBe(false);
  expect(tellable(held, facts(1280))).toEqual(facts(1280));
  expect(tellable(held, facts(1279))).toEqual(facts(1500));
});

test("what the cluster does not know, and why", () => {
  const away = {
    code: "UNREACHABLE",
    message: "the controller is away",
    next: "start it",
  } as const;
  const mtu = untold(facts(1500), facts(1400), away);
  expect(mtu).toEqual({
    code: "UNREACHABLE",
    message:
      "the cluster does not know yet that this host has an MTU of 1400, not 1500: the controller is away",
    next: "start it",
  });
  const many = ["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "10.5.0.0/16", "10.6.0.0/16"];
  expect(untold(facts(1500, "10.1.0.0/16"), facts(1500, ...many), away).message).toContain(
    "has 10.2.0.0/16, 10.3.0.0/16, 10.4.0.0/16 and 2 more by itself, and 10.1.0.0/16 no more",
  );
  const old = { code: "INVALID", message: "the controller cannot read the request" } as const;
  expect(untold(facts(1500), facts(1400), old).message).toMatch(
    /the controller is of a version that takes this only from a host that joins$/,
  );
});
