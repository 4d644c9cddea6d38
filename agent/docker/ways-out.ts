import type { NetworkRecord } from "../../shared/cluster-state.ts";
import type { Failure } from "../../shared/errors.ts";
import { familyOf, type Ip } from "../../shared/ip.ts";
import type { Egress } from "../kernel/port.ts";
import type { TransitSlots } from "../networks/transit-slots.ts";
import type { SandboxWays, Way } from "./sandbox-ways.ts";

export interface WaysOutModules {
  readonly egress: Pick<Egress, "blocked">;
  readonly transitSlots: Pick<TransitSlots, "of" | "switchedOff">;
  readonly sandboxWays: SandboxWays;
}

/** How containers leave their networks. Docker gives one docker_gwbridge when none of its networks has a gateway. */
export class WaysOut {
  readonly #modules: WaysOutModules;

  constructor(modules: WaysOutModules) {
    this.#modules = modules;
  }

  /**
   * By which the container leaves this network: none when Docker's bridge is its way out, or it has none.
   * @param publishes ports of it are published, which only Docker's bridge does
   */
  gateways(record: NetworkRecord, sandbox: string, publishes: boolean): Ip[] {
    const { egress, transitSlots, sandboxWays } = this.#modules;
    const transit = transitSlots.of(record);
    const open = transit !== undefined && egress.blocked(4) === undefined;
    const offered: Way = record.internal ? "none" : open && !publishes ? "transit" : "gwbridge";
    if (sandboxWays.decide(sandbox, offered) !== "transit" || transit === undefined) return [];
    return record.subnets.flatMap(({ gateway }) =>
      familyOf(gateway) === 4 || egress.blocked(6) === undefined ? [gateway] : [],
    );
  }

  /** What was decided for a container stays so: it does not get docker_gwbridge for it. */
  failure(): Failure | undefined {
    const { egress, sandboxWays, transitSlots } = this.#modules;
    const containers = sandboxWays.byTransit();
    const why = containers === 0 ? undefined : (transitSlots.switchedOff() ?? egress.blocked(4));
    if (why === undefined) return undefined;
    const who = containers === 1 ? "1 container does" : `${containers} containers do`;
    return { ...why, message: `${who} not reach what is outside of this host: ${why.message}` };
  }
}
