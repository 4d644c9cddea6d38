import type { NetworkId } from "../../shared/ids.ts";
import type { Family } from "../../shared/ip.ts";
import { missing } from "./errno.ts";
import { linksOf } from "./netlink/dumps.ts";
import type { Link } from "./netlink/route.ts";
import { RtNetlink } from "./netlink/socket.ts";
import { isPinnedNetns, netSettingFaults, setNetSettings } from "./netns.ts";
import { Watch } from "./watch.ts";

/**
 * The pinned namespace of one network, with a socket in it and a watch over it. These belong to the
 * namespace, not to its path: with another one there they are of no use.
 */
export class NetworkNamespace {
  readonly path: string;
  readonly #network: NetworkId;
  readonly #socket: RtNetlink;
  readonly #watch: Watch;
  #closed = false;

  constructor(network: NetworkId, path: string, report: () => void) {
    this.#network = network;
    this.path = path;
    this.#socket = new RtNetlink(path);
    try {
      this.#watch = new Watch(path, report);
    } catch (error) {
      this.#socket.close();
      throw error;
    }
  }

  /** @throws NETLINK ENODEV when the namespace went meanwhile. */
  get socket(): RtNetlink {
    if (this.#closed || !isPinnedNetns(this.path)) throw missing(`network ${this.#network}`);
    return this.#socket;
  }

  async links(): Promise<Link[]> {
    return linksOf(this.socket);
  }

  /** What is lost from here on we cause ourselves. */
  pauseWatch(): void {
    this.#watch.pause();
  }

  resumeWatch(): void {
    this.#watch.resume();
  }

  /** What is in the namespace goes on forwarding. */
  close(): void {
    this.#closed = true;
    this.#socket.close();
    this.#watch.close();
  }
}

/** A new namespace takes router advertisements [kernel defaults]: ours must not. */
const SETTINGS = [
  // One that has a way out forwards, and its containers know of no better way.
  ["ipv4/conf/all/send_redirects", "0"],
  ["ipv4/conf/default/send_redirects", "0"],
  ["ipv4/conf/br0/send_redirects", "0"],
  ["ipv6/conf/all/accept_ra", "0"],
  // As IPv4's: a bridge set down and up still has its gateway address.
  ["ipv6/conf/all/keep_addr_on_down", "1"],
  ["ipv6/conf/default/accept_ra", "0"],
  ["ipv6/conf/default/addr_gen_mode", "1"],
  ["bridge/bridge-nf-call-iptables", "0"],
  ["bridge/bridge-nf-call-ip6tables", "0"],
  ["bridge/bridge-nf-call-arptables", "0"],
] as const;

export function quieten(path: string): void {
  setNetSettings(path, SETTINGS);
}

/** What `quieten` would set, in words. */
export function noiseOf(path: string): string[] {
  return netSettingFaults(path, SETTINGS);
}

/** Only behind rules that say what is forwarded (nft/transit-filter.ts). */
export function setForwarding(path: string, families: readonly Family[]): void {
  setNetSettings(path, forwarding(families));
}

/** What `setForwarding` would set, in words. */
export function forwardingFaults(path: string, families: readonly Family[]): string[] {
  return netSettingFaults(path, forwarding(families));
}

/** A bridge that forwards IPv6 tells its ports that it is a router: one of a network without it has nothing to tell. */
function forwarding(families: readonly Family[]): [string, string][] {
  const value = (family: Family): string => (families.includes(family) ? "1" : "0");
  return [
    ["ipv4/ip_forward", value(4)],
    ["ipv6/conf/all/forwarding", value(6)],
  ];
}
