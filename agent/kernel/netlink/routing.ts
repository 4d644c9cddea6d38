import {
  bytesToIp,
  type Cidr,
  type Family,
  familyOf,
  Ip,
  ipToBytes,
  prefixLength,
} from "../../../shared/ip.ts";
import { type Route, ROUTE, type Rule } from "../../core/data-plane/inet.ts";
import { attr, CREATE, decodeAttributes, type NetlinkMessage, REPLACE, u32 } from "./codec.ts";
import type { Request } from "./socket.ts";

/** rtnetlink messages on routes and IPv4's rules (linux/rtnetlink.h, fib_rules.h), as requests and back. */

const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
export const RTM_NEWRULE = 32;
export const RTM_DELRULE = 33;
const RTM_GETRULE = 34;
const AF_INET = 2;
const AF_INET6 = 10;
const RTA = {
  dst: 1,
  oif: 4,
  gateway: 5,
  priority: 6,
  prefSrc: 7,
  multipath: 9,
  table: 15,
  via: 18,
} as const;
const RTPROT = { kernel: 2, static: 4 } as const;
const RT_SCOPE = { universe: 0, link: 253, host: 254 } as const;
const FRA = { priority: 6, suppressPrefix: 14, table: 15, protocol: 21 } as const;
const FR_ACT_TO_TABLE = 1;
const ANY = { 4: Ip.parse("0.0.0.0"), 6: Ip.parse("::") } as const;

/** As the kernel gave it: it goes by the same words. */
export interface Held {
  readonly payload: Buffer;
}

export const dumpRoutes: Request = dump("RTM_GETROUTE", RTM_GETROUTE);
export const dumpRoutes6: Request = dump("RTM_GETROUTE IPv6", RTM_GETROUTE, AF_INET6);
export const dumpRules: Request = dump("RTM_GETRULE", RTM_GETRULE);
export const dumpRules6: Request = dump("RTM_GETRULE IPv6", RTM_GETRULE, AF_INET6);

function dump(op: string, type: number, family = AF_INET): Request {
  const head = Buffer.alloc(12);
  head.writeUInt8(family, 0);
  return { op, type, flags: 0, parts: [head] };
}

/** As the kernel itself makes it with an address, so that it goes with the address. */
export function putConnected({ table, type, to, link }: Route, source: Ip): Request {
  const scope = type === ROUTE.local ? RT_SCOPE.host : RT_SCOPE.link;
  return routeRequest(
    to,
    [AF_INET, table, RTPROT.kernel, scope, type],
    [attr(RTA.oif, u32(link)), attr(RTA.prefSrc, ipToBytes(source))],
  );
}

/** One of our own, of either family. */
export function putRoute({ table, type, to, link, via, metric }: Route): Request {
  const family = familyOf(to) === 4 ? AF_INET : AF_INET6;
  return routeRequest(
    to,
    [family, table, RTPROT.static, RT_SCOPE.universe, type],
    [
      ...(link === 0 ? [] : [attr(RTA.oif, u32(link))]),
      ...(via === undefined ? [] : [attr(RTA.gateway, ipToBytes(via))]),
      attr(RTA.priority, u32(metric)),
    ],
  );
}

function routeRequest(
  to: Cidr,
  [family, table, protocol, scope, type]: readonly [number, number, number, number, number],
  attributes: Buffer[],
): Request {
  const head = Buffer.alloc(12);
  head.set([family, prefixLength(to), 0, 0, table, protocol, scope, type]);
  const ip = Ip.parse(to.split("/")[0]);
  return {
    op: `RTM_NEWROUTE ${to}`,
    type: RTM_NEWROUTE,
    flags: CREATE | REPLACE,
    parts: [head, attr(RTA.dst, ipToBytes(ip)), ...attributes],
  };
}

export function deleteRoute({ to, payload }: Route & Held): Request {
  return { op: `RTM_DELROUTE ${to}`, type: RTM_DELROUTE, flags: 0, parts: [payload] };
}

export function putRule({ priority, table }: Rule, family: Family): Request {
  const head = Buffer.alloc(12);
  head.set([family === 4 ? AF_INET : AF_INET6, 0, 0, 0, table, 0, 0, FR_ACT_TO_TABLE]);
  const parts = [head, attr(FRA.priority, u32(priority)), attr(FRA.table, u32(table))];
  return { op: `RTM_NEWRULE ${priority}`, type: RTM_NEWRULE, flags: CREATE, parts };
}

export function deleteRule({ priority, payload }: Rule & Held): Request {
  return { op: `RTM_DELRULE ${priority}`, type: RTM_DELRULE, flags: 0, parts: [payload] };
}

export function decodeRoute({ payload }: NetlinkMessage): Route & Held {
  const attributes = decodeAttributes(payload.subarray(12));
  const to = attributes.get(RTA.dst);
  const any = payload.readUInt8(0) === AF_INET6 ? ANY[6] : ANY[4];
  const type = payload.readUInt8(7);
  const via = attributes.get(RTA.gateway);
  return {
    table: attributes.get(RTA.table)?.readUInt32LE() ?? payload.readUInt8(4),
    type,
    to: `${to === undefined ? any : bytesToIp(to)}/${payload.readUInt8(1)}` as Cidr,
    // IPv6 names `lo` for one that leads nowhere.
    link: type === ROUTE.unreachable ? 0 : (attributes.get(RTA.oif)?.readUInt32LE() ?? 0),
    via: via === undefined ? undefined : bytesToIp(via),
    // A next hop of another family is none of ours either.
    multipath: attributes.has(RTA.multipath) || attributes.has(RTA.via),
    metric: attributes.get(RTA.priority)?.readUInt32LE() ?? 0,
    payload,
  };
}

export function decodeRule({ payload }: NetlinkMessage): Rule & Held {
  const attributes = decodeAttributes(payload.subarray(12));
  const known = new Set<number>(Object.values(FRA));
  const selects =
    payload.subarray(1, 4).some((byte) => byte !== 0) || payload.readUInt32LE(8) !== 0;
  const looksUp = payload.readUInt8(7) === FR_ACT_TO_TABLE;
  return {
    priority: attributes.get(FRA.priority)?.readUInt32LE() ?? 0,
    table: looksUp ? (attributes.get(FRA.table)?.readUInt32LE() ?? payload.readUInt8(4)) : 0,
    plain: !selects && [...attributes.keys()].every((type) => known.has(type)),
    payload,
  };
}
