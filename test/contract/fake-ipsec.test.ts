import { beforeEach, describe } from "vitest";
import { FakeIpsec } from "../fakes/fake-ipsec.ts";
import { vtepOf } from "../support/cluster.ts";
import { ipsecContract } from "./ipsec-contract.ts";

describe("IPsec in memory", () => {
  let kernel: FakeIpsec;
  beforeEach(() => {
    kernel = new FakeIpsec();
  });
  ipsecContract(() => ({
    kernel,
    local: vtepOf(1),
    peer: vtepOf(2),
    moved: () => new FakeIpsec("elsewhere", kernel),
    flushAssociations: () => kernel.flushAssociations(),
    flushPolicies: () => kernel.flushPolicies(),
  }));
});
