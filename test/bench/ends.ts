import { execFileSync } from "node:child_process";
import { IMAGE } from "../lab/lab.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";

/** Where traffic begins or ends. */
export interface End {
  readonly host: LabHost;
  /** Runs a command where this end's stack is. */
  readonly enter: readonly string[];
  readonly address: string;
}

/** A container that waits. */
export async function containerEnd(host: LabHost, network: string, name: string): Promise<End> {
  const run = ["run", "-d", "--name", name, "--network", network];
  await host.docker(...run, IMAGE, "/bin/sleep", "100000");
  const format = `{{.State.Pid}} {{(index .NetworkSettings.Networks "${network}").IPAddress}}`;
  const [pid = "", address = ""] = (await host.docker("inspect", "-f", format, name))
    .trim()
    .split(" ");
  return { host, enter: ["nsenter", `--target=${pid}`, "--net"], address };
}

/** `end` of iperf3's report. */
interface IperfEnd {
  /** Of TCP. */
  readonly sum_received?: { readonly bits_per_second: number };
  /** Of UDP. */
  readonly sum?: {
    readonly packets: number;
    readonly lost_packets: number;
    readonly seconds: number;
  };
}

export function iperf(
  ends: readonly End[],
  seconds: number,
  ...options: readonly string[]
): Promise<IperfEnd> {
  const [client, server] = ends as [End, End];
  const [file, args] = server.host.argv([...server.enter, "iperf3", "-s", "-1", "-D"]);
  execFileSync(file, args);
  return eventually(20_000, "an iperf3 server", async () => {
    const command = ["iperf3", "-c", server.address, "-t", String(seconds), "-J", ...options];
    const text = await client.host.exec(...client.enter, ...command);
    return (JSON.parse(text) as { end: IperfEnd }).end;
  });
}

/** One stream. */
export async function tcpGbits(ends: readonly End[], seconds: number): Promise<number> {
  const { sum_received: received } = await iperf(ends, seconds);
  return (received?.bits_per_second ?? Number.NaN) / 1e9;
}
