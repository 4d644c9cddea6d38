import { attr, text, u32, u8 } from "./codec.ts";
import { IFLA, type Link, LINKINFO, newLink } from "./route.ts";
import type { Request } from "./socket.ts";

/** Settings of a bridge port (linux/if_link.h), as requests and back. */

const BRPORT = {
  learning: 8,
  unicastFlood: 9,
  mcastFlood: 27,
  bcastFlood: 30,
  neighSuppress: 32,
  locked: 39,
} as const;

/** `vxlanFlood`: of a network whose broadcast and multicast leave the host. */
export type PortRole = "vxlan" | "vxlanFlood" | "container";

function flagsOf(role: PortRole): [flag: number, value: 0 | 1][] {
  const copies = role === "vxlanFlood" ? 1 : 0;
  const always: [number, 0][] = [
    [BRPORT.learning, 0],
    [BRPORT.unicastFlood, 0],
  ];
  if (role === "container") return [...always, [BRPORT.locked, 1]];
  return [
    ...always,
    [BRPORT.mcastFlood, copies],
    [BRPORT.bcastFlood, copies],
    [BRPORT.neighSuppress, 1],
  ];
}

/** Into the bridge, with the role's flags, up. Two messages: the flags need the port to exist. */
export function makePort(index: number, bridge: number, role: PortRole): Request[] {
  const flags = flagsOf(role).map(([flag, value]) => attr(flag, u8(value)));
  return [
    newLink(`IFLA_MASTER ${role}`, index, false, [attr(IFLA.master, u32(bridge))], 0),
    newLink(
      `IFLA_BRPORT ${role}`,
      index,
      true,
      [
        attr(
          IFLA.linkinfo,
          attr(LINKINFO.slaveKind, text("bridge")),
          attr(LINKINFO.slaveData, ...flags),
        ),
      ],
      0,
    ),
  ];
}

/** It has the role's flags. One that the kernel does not say it does not have, nor took. */
export function hasRole({ portFlags }: Pick<Link, "portFlags">, role: PortRole): boolean {
  return flagsOf(role).every(
    ([flag, value]) => (portFlags.get(flag)?.readUInt8() ?? value) === value,
  );
}

/** It gets what goes to everybody. */
export function floodsMulticast({ portFlags }: Pick<Link, "portFlags">): boolean {
  return portFlags.get(BRPORT.mcastFlood)?.readUInt8() === 1;
}
