import type { Holder } from "./names.ts";

/** In front of a name: its holders, also where the name itself has a virtual address. */
export const MEMBERS = "tasks.";

/** As an SRV record (RFC 2782), whose priority and weight are the same for all. */
export interface ServiceRecord {
  readonly port: number;
  /** Canonical: `<container>.<network>`. */
  readonly target: string;
}

export interface AskedPort {
  /** As `Endpoint.ports`. */
  readonly port: string;
  readonly name: string;
}

/** IANA's names of ports that containers often have. */
const PORT_NAMES: ReadonlyMap<string, number> = new Map([
  ["ssh", 22],
  ["smtp", 25],
  ["domain", 53],
  ["http", 80],
  ["imap", 143],
  ["ldap", 389],
  ["https", 443],
  ["submission", 587],
  ["ldaps", 636],
  ["imaps", 993],
  ["ms-sql-s", 1433],
  ["mqtt", 1883],
  ["mysql", 3306],
  ["postgresql", 5432],
  ["amqp", 5672],
  ["redis", 6379],
  ["http-alt", 8080],
  ["mongodb", 27017],
]);

/** `_80._tcp.web` and `_http._tcp.web`, canonical; undefined: no such form, or no such port. */
export function askedPort(name: string): AskedPort | undefined {
  const [, service = "", protocol, of = ""] = /^_([^.]+)\._(tcp|udp)\.(.+)$/.exec(name) ?? [];
  const port = /^\d{1,5}$/.test(service) ? Number(service) : PORT_NAMES.get(service);
  if (protocol === undefined || port === undefined) return undefined;
  const isOfMembers = of.startsWith(MEMBERS) && of.length > MEMBERS.length;
  return { port: `${port}/${protocol}`, name: isOfMembers ? of.slice(MEMBERS.length) : of };
}

/** Of those that are in answers. `network`: its name. */
export function servicesIn(
  holders: Iterable<Holder>,
  { port }: AskedPort,
  network: string | undefined,
): ServiceRecord[] {
  const number = Number.parseInt(port, 10);
  return [...holders].flatMap(({ names: [own], out, ports = [] }) => {
    if (own === undefined || out !== undefined || !ports.includes(port)) return [];
    return [{ port: number, target: network === undefined ? own : `${own}.${network}` }];
  });
}
