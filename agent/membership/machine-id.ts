import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { type ClusterId, MachineId } from "../../shared/ids.ts";

export interface MachineFiles {
  readonly machineId: string;
  /** The firmware's word (SMBIOS): another one where a hypervisor made the copy. Readable for root. */
  readonly productUuid: string;
}

const FILES: MachineFiles = {
  machineId: "/etc/machine-id",
  productUuid: "/sys/class/dmi/id/product_uuid",
};

/**
 * This machine within the cluster, as machine-id(5) asks for: the id itself leaves the machine for nobody, what is
 * made of it by a keyed hash may. Undefined: the machine has none, or not yet.
 */
export function machineIdFor(cluster: ClusterId, files = FILES): MachineId | undefined {
  const id = firstLine(files.machineId);
  if (!/^[0-9a-f]{32}$/.test(id)) return undefined;
  const hash = createHmac("sha256", Buffer.from(id, "hex"));
  hash.update(`overlay-ts/${cluster}/${firstLine(files.productUuid).toLowerCase()}`);
  return MachineId.parse(hash.digest("hex").slice(0, 32));
}

/** Empty: it is not there. A host without systemd may have no id, one without SMBIOS no UUID. */
function firstLine(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}
