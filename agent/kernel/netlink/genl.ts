import { type Attributes, decodeAttributes, decodeText } from "./codec.ts";
import type { Netlink, Request } from "./socket.ts";

/** Generic netlink (linux/genetlink.h): families with names, numbered as they were loaded. */

const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR = { familyId: 1, familyName: 2 } as const;

/** `struct genlmsghdr` before the attributes. */
export function genlRequest(
  op: string,
  family: number,
  command: number,
  version: number,
  attributes: readonly Buffer[],
): Request {
  const parts = [Buffer.from([command, version, 0, 0]), ...attributes];
  return { op, type: family, flags: 0, parts };
}

/** Attributes of an answer. */
export function decodeGenl(payload: Buffer): Attributes {
  return decodeAttributes(payload.subarray(4));
}

/** Undefined: the kernel has no such family, or not loaded it. */
export async function genlFamily(socket: Netlink, name: string): Promise<number | undefined> {
  const op = `CTRL_CMD_GETFAMILY ${name}`;
  const all = genlRequest(op, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 2, []);
  for (const { payload } of await socket.dump(all)) {
    const family = decodeGenl(payload);
    if (decodeText(family.get(CTRL_ATTR.familyName)) === name)
      return family.get(CTRL_ATTR.familyId)?.readUInt16LE();
  }
  return undefined;
}
