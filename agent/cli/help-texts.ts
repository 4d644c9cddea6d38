/** What `--help` says below the options. */

export const EXAMPLES = `
Examples:
  overlay-ts init                                     a cluster; it prints what the other hosts type
  overlay-ts network create app -o encryption=wireguard
  overlay-ts status --check                           one line, and an exit status
  overlay-ts names app                                who is found on network app, where
  overlay-ts events -f --since 10m                    what happened, and what happens
  overlay-ts node ls --filter mesh=no -q              names alone, of those not connected`;

export const STATUS_HELP = `
Exit status: 0 well, 1 something is wrong, 3 this host is no member, 4 the agent cannot be asked.`;

export const NAMES_HELP = `
A container is found by its name and aliases, and by \`<name>.<network>\`. Several may hold one name.
STATE is "in" (in answers), or why it is in none:
  starting, unhealthy         its health check says so; \`-o dns.unhealthy=include\` passes over it
  paused, stopping            as Docker says
  unreachable                 this host does not reach the container's host
  not-allowed                 its host's token did not allow the network
  not-hosting                 its host says that it is not on the network any more
  not-in-block, gateway, mac-taken, address-taken, no-address
                              the container's host may not assign its address or MAC: it is ignored`;

export const EVENTS_HELP = `
A line is: time, network, who, what happened, more; with --json one object a line.
  in, out, changed, gone      a container's names: answered, left out and why, changed, removed
  appeared, named, ended      a network of the cluster
  here, not-here              this host joined or left the network
  removed, put-back           its view on this engine
  joined, left, unreachable, back   a host
  problem, recovered          a kernel pass, the guards, WireGuard or IPsec, the disk
  lost                        data on disk could not be read; they come again from peers and kernel
  tampered                    somebody else changed the guards; they are put back`;

export const KEY_HELP = `
Without an option: all IPsec keys of this host. They also rotate on the schedule that \`key schedule\` shows;
WireGuard's session keys rotate every two minutes.`;

export const VIP_HELP = `
Members are the network's containers that have the name, those that run already too. Instead of this command: the label
overlay-ts.vip=true (for the Compose service, else the first alias) or overlay-ts.vip=NAME on containers, with
overlay-ts.vip.sticky=true; or -o vip=true on the network, for each of its services. tasks.NAME answers the members.`;

export const SCHEDULE_HELP = `
Without an option: shows the schedule. A change takes effect at each key's next rotation (\`key rotate\` does
that now). Bounds: --ipsec 10s to 7d, --ipsec-packets 1000 to 2147483648, --ipsec-bytes 1048576 to 2^50,
--gossip 1h to 3650d.`;

export const LIST_HELP = `
Fields of --format and --filter are the table's headings: {{.Name}}, {{.DataPath}}, {{json .}}; \\t and \\n are
heeded. A filter compares without regard to case, with each of several in one cell; two of one field mean either.`;

/** Headings of `overlay-ts --help`; what is not named here is under its own, `Commands:`. */
export const GROUPS: Readonly<Record<string, readonly string[]>> = {
  "Every day:": ["status", "probe", "verify", "names", "events", "network", "endpoint", "vip"],
  "The cluster:": ["init", "join", "leave", "node", "token", "key", "controller"],
  "For services and scripts:": ["agent", "prepare", "withdraw", "metrics", "version"],
};
