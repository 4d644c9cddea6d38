import type { HistogramCounts } from "../../shared/histogram.ts";
import type { NetworkId } from "../../shared/ids.ts";
import type { AddressesLeft } from "../core/ipam.ts";
import type { PluginCounts } from "../docker/plugin/counters.ts";
import type { ProbeCounts } from "../membership/failure-detector.ts";
import type { PeerState } from "./peer-state.ts";
import type { AgentStatus } from "./status.ts";

/** What an agent's numbers are made of: `status`, and what is too much, or too fine, to be in that. */

export interface ProcessFacts {
  readonly version: string;
  readonly wire: string;
  readonly nodeVersion: string;
  readonly startedAtMs: number;
  readonly residentBytes: number;
  readonly cpuSeconds: number;
  /** Of the main thread: how long it was not idle. */
  readonly loopActiveMs: number;
}

/** Of a host that takes part. */
export interface MemberFacts {
  readonly status: AgentStatus;
  readonly peers: readonly { readonly name: string; readonly state: PeerState }[];
  readonly probes: readonly ProbeCounts[];
  readonly passes: HistogramCounts;
  /** In own blocks; of a network with two subnets, in the one that has fewer left. */
  readonly addresses: ReadonlyMap<NetworkId, AddressesLeft>;
}

export interface AgentFacts {
  readonly process: ProcessFacts;
  /** Undefined: a host that takes no part. */
  readonly member: MemberFacts | undefined;
  /** Undefined: a host without an engine. */
  readonly plugin: PluginCounts | undefined;
}
