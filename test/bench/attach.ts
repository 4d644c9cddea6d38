import { IMAGE, type Lab } from "../lab/lab.ts";
import { median, round, timed } from "./statistics.ts";

export interface Attach {
  readonly noneMs: number;
  readonly bridgeMs: number;
  readonly overlayMs: number;
  /** (overlay - none) / (bridge - none) */
  readonly overBridge: number;
}

/** `docker run --rm` of a program that does nothing, on three kinds of network, interleaved. */
export async function measureAttach(lab: Lab, network: string, rounds: number): Promise<Attach> {
  const [host] = lab.hosts;
  if (host === undefined) throw new Error("no host");
  const run = (on: string): Promise<number> =>
    timed(() => host.docker("run", "--rm", "--network", on, IMAGE, "/bin/true"));
  const times: Record<"none" | "bridge" | "overlay", number[]> = {
    none: [],
    bridge: [],
    overlay: [],
  };
  for (let i = 0; i < rounds; i++) {
    times.none.push(await run("none"));
    times.bridge.push(await run("bridge"));
    times.overlay.push(await run(network));
  }
  const [none, bridge, overlay] = [times.none, times.bridge, times.overlay].map(median) as [
    number,
    number,
    number,
  ];
  return {
    noneMs: round(none, 0),
    bridgeMs: round(bridge, 0),
    overlayMs: round(overlay, 0),
    overBridge: round((overlay - none) / (bridge - none)),
  };
}
