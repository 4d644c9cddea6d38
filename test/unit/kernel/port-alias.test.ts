import { describe, expect, test } from "vitest";
import { decodeAlias, encodeAlias } from "../../../agent/kernel/port-alias.ts";
import { addressesOf } from "../../../shared/documents.ts";
import { endpoint, withIpv6 } from "../../support/cluster.ts";

const held = withIpv6(endpoint(1, 5));
const port = { endpoint: held.id, mac: held.mac, ips: addressesOf(held) };

describe("a port's alias", () => {
  test("has all that a restarted agent must know of it", () => {
    expect(decodeAlias(encodeAlias(port))).toEqual({ port, onHost: false });
  });

  test("of an exposed network's says that the other end is the host's; the end itself has the addresses", () => {
    const exposed = { ...port, host: [{ ip: port.ips[0]!, prefixLength: 16 }] };
    expect(decodeAlias(encodeAlias(exposed))).toEqual({ port, onHost: true });
  });

  test.each(["", "somebody's", `overlay-ts ${held.id}`, `overlay-ts nothing ${held.mac}`])(
    "%j is not ours",
    (alias) => expect(decodeAlias(alias)).toBeUndefined(),
  );
});
