import { EndpointId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import { Mac } from "../../shared/mac.ts";
import type { LocalPort } from "../core/data-plane/kernel-state.ts";

export interface AliasedPort {
  readonly port: LocalPort;
  /** The other end stays with the host. */
  readonly onHost: boolean;
}

const ALIAS = "overlay-ts";
const ON_HOST = "host";

/** A port says in the kernel whose it is, so that a restarted agent needs no memory to know it. */
export function encodeAlias({ endpoint, mac, ips, host }: LocalPort): string {
  return [ALIAS, endpoint, mac, ...ips, ...(host === undefined ? [] : [ON_HOST])].join(" ");
}

/** Undefined: not ours. */
export function decodeAlias(alias: string): AliasedPort | undefined {
  const [mark, endpoint, mac, ...rest] = alias.split(" ");
  const port = { endpoint: EndpointId.safeParse(endpoint), mac: Mac.safeParse(mac) };
  if (mark !== ALIAS || !port.endpoint.success || !port.mac.success) return undefined;
  const addresses = rest.map((ip) => Ip.safeParse(ip));
  return {
    port: {
      endpoint: port.endpoint.data,
      mac: port.mac.data,
      ips: addresses.flatMap((ip) => (ip.success ? [ip.data] : [])),
    },
    onHost: rest.at(-1) === ON_HOST,
  };
}
