import { bytesToMac, type Mac } from "../../../shared/mac.ts";

/** Undefined: of a group, of nobody (all zero), or no Ethernet address at all. */
export function decodeMac(address: Buffer | undefined): Mac | undefined {
  const isOne =
    address?.length === 6 && (address[0] ?? 1) % 2 === 0 && address.some((byte) => byte !== 0);
  return isOne ? bytesToMac(address) : undefined;
}
