import { askPort, type PortAnswer } from "../../shared/node/tcp-port.ts";

/** Why no connection with other hosts stands, as far as their ports tell, for people. */

const NAMED = 5;

export interface PortOf {
  readonly name: string;
  readonly address: string;
}

/** Hosts whose ports say the same. */
export interface Said {
  readonly kind: PortAnswer["kind"];
  readonly text: string;
  readonly next: string;
}

export async function whatPortsSay(
  hosts: readonly PortOf[],
  port: number,
  ask = askPort,
): Promise<Said[]> {
  const answers = await Promise.all(hosts.map(({ address }) => ask(address, port)));
  const groups = Object.groupBy(hosts.keys(), (i) => answers[i]?.kind ?? "silent");
  return Object.values(groups).flatMap((group) => {
    const [first] = group.flatMap((i) => answers[i] ?? []);
    const same = group.flatMap((i) => hosts[i] ?? []);
    return first === undefined ? [] : [saidBy(same, first, port)];
  });
}

function saidBy(hosts: readonly PortOf[], answer: PortAnswer, port: number): Said {
  const { kind } = answer;
  const [who, where] = [names(hosts), `${port}/tcp`];
  switch (kind) {
    case "accepts":
      return {
        kind,
        text: `${where} of ${who} takes connections, and no handshake has ended, as with hosts that are busy`,
        next: "see the load of both hosts (`uptime`), and what `overlay-ts status` says of an agent there",
      };
    case "refuses":
      return {
        kind,
        text: `${where} of ${who} refuses connections: no agent listens there`,
        next: "start it (`systemctl status overlay-ts-agent` there); if it runs, a firewall refuses in its place",
      };
    case "no-route":
      return {
        kind,
        text: `there is no route to ${who}`,
        next: `check that the host is up, and the way to it: \`ip route get ${hosts[0]?.address}\``,
      };
    case "silent":
      return {
        kind,
        text: `${where} of ${who} does not answer: what is sent there is lost`,
        next: `open ${where} in the firewalls between the hosts, and check that the host is up`,
      };
    case "not-sent":
      return {
        kind,
        text: `this host cannot send to ${where} of ${who}: ${answer.why}`,
        next: "see this host's own firewall (`nft list ruleset`) and addresses (`ip address`)",
      };
  }
}

export function sentence(said: readonly Said[]): string {
  return said.map(({ text }) => text).join("; ");
}

export function names(peers: readonly { name: string }[]): string {
  const [first, more] = [peers.slice(0, NAMED), peers.length - NAMED];
  return first.map(({ name }) => name).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
