import { familyOf, type Ip } from "../../../shared/ip.ts";
import type { Policy } from "../../kernel/netlink/xfrm.ts";

/** Nobody's policy is asked before ours (0 is also what ip-xfrm(8) gives), and none between them. */
const REQUIRE_PRIORITY = 0;
const BLOCK_PRIORITY = 1;

/**
 * What stands from the first moment and never changes. From or to the VTEP: only under ESP, which
 * without an SA is nothing. Everything else of the port, in both families: nothing, also should the first
 * two be lost. The kernel keeps one policy a selector, so the two kinds must differ in their ends.
 */
export function classPolicies(local: Ip): Policy[] {
  const require = {
    action: "require",
    family: familyOf(local),
    priority: REQUIRE_PRIORITY,
  } as const;
  const any = { source: undefined, destination: undefined };
  return [
    // Blocks first: between two messages there must be no moment without.
    ...([4, 6] as const).flatMap((family) =>
      (["in", "out"] as const).map((direction): Policy => ({
        action: "block",
        family,
        direction,
        priority: BLOCK_PRIORITY,
        ...any,
      })),
    ),
    { ...require, ...any, direction: "out", source: local },
    { ...require, ...any, direction: "in", destination: local },
  ];
}
