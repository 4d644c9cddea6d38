import fc from "fast-check";
import type { Service, ServiceMember } from "../../agent/core/balancing/service.ts";
import { EndpointId, NetworkId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";

/** Services for tests of what is done with them: member k has the addresses of host k (`TestHosts`). */

export const NETWORK = NetworkId.parse("1".repeat(32));
export const VIP = Ip.parse("198.51.100.200");
export const VIP6 = Ip.parse("2001:db8::200");

export function addressesOf(k: number): { ipv4: Ip; ipv6: Ip } {
  return { ipv4: Ip.parse(`198.51.100.${k}`), ipv6: Ip.parse(`2001:db8::${k}`) };
}

export function memberOf(k: number, state: ServiceMember["state"] = "ready"): ServiceMember {
  return { endpoint: EndpointId.parse(String(k).padStart(64, "0")), ...addressesOf(k), state };
}

export function service(members: readonly ServiceMember[], more: Partial<Service> = {}): Service {
  return {
    network: NETWORK,
    name: "web",
    ipv4: VIP,
    ipv6: VIP6,
    sticky: false,
    members,
    gone: [],
    ...more,
  };
}

const anyMember = fc
  .record({
    k: fc.integer({ min: 2, max: 12 }),
    state: fc.constantFrom("ready", "ready", "draining", "unreachable"),
    family: fc.constantFrom("both", "both", "ipv4", "ipv6"),
  })
  .map(({ k, state, family }): ServiceMember => {
    const member = memberOf(k, state);
    return family === "both"
      ? member
      : { ...member, [family === "ipv4" ? "ipv6" : "ipv4"]: undefined };
  });

const anyService = fc
  .record({
    k: fc.integer({ min: 0, max: 5 }),
    families: fc.constantFrom("both", "both", "ipv4", "ipv6"),
    sticky: fc.boolean(),
    members: fc.uniqueArray(anyMember, { maxLength: 5, selector: ({ endpoint }) => endpoint }),
    gone: fc.uniqueArray(fc.integer({ min: 13, max: 16 }), { maxLength: 2 }),
  })
  .map(({ k, families, sticky, members, gone }): Service => {
    const virtual = { ipv4: Ip.parse(`198.51.100.${200 + k}`), ipv6: Ip.parse(`2001:db8::2${k}`) };
    return service(members, {
      name: `s${k}`,
      ipv4: families === "ipv6" ? undefined : virtual.ipv4,
      ipv6: families === "ipv4" ? undefined : virtual.ipv6,
      sticky,
      gone: gone.map(addressesOf),
    });
  });

/** Whose virtual addresses are their own. */
export const anyServices: fc.Arbitrary<readonly Service[]> = fc.uniqueArray(anyService, {
  maxLength: 4,
  selector: ({ name }) => name,
});
