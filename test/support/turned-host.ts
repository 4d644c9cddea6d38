import { execFileSync } from "node:child_process";

const AWAY = 10_000;

/** The port from which a host that `turn` was told of leads to `port`. */
export const past = (port: number): number => port + AWAY;

/**
 * A host whose root is hostile: what its sockets send to `past(port)` goes to `port`, behind the rules by which
 * our guards there keep a process from the ports of VXLAN.
 */
export function turn(netns: string, ports: readonly number[]): void {
  const rules = (family: "ip" | "ip6"): string => `table ${family} turned {}
delete table ${family} turned
table ${family} turned {
  chain output {
    type nat hook output priority -100; policy accept;
${ports.map((port) => `    udp dport ${past(port)} dnat to :${port}`).join("\n")}
  }
}`;
  execFileSync("nsenter", [`--net=${netns}`, "nft", "-f", "-"], {
    input: `${rules("ip")}\n${rules("ip6")}\n`,
  });
}
