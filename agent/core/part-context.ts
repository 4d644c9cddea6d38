import type { NodeId } from "../../shared/ids.ts";
import type { Clock, Log, Random, Timers } from "../../shared/ports.ts";
import type { Signal } from "../../shared/signal.ts";

/** What every part of an agent may need beside the other parts. */
export interface PartContext {
  /** This host. */
  readonly self: NodeId;
  readonly log: Log;
  /** Monotonic. */
  readonly clock: Pick<Clock, "nowMs">;
  readonly timers: Timers;
  readonly random: Random;
  /** A part says something else than before in `status`, such as its `failure`. */
  readonly viewChanged: Signal;
  /** Once a minute: parts look for what no event told, and try again what failed. */
  readonly resync: Signal;
}
