import type { ClusterState, SecurityClass } from "../../shared/cluster-state.ts";
import { SecurityClass as SecurityClassSchema } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { VXLAN_OVERHEAD_BYTES } from "../../shared/vxlan.ts";

const KNOWN = new Set(["encryption", "encrypted", "mtu"]);

/** `-o` options of a network. @throws INVALID, UNSUPPORTED: never a network other than asked for. */
export function readOptions(
  options: Readonly<Record<string, string>>,
  state: Pick<ClusterState, "settings" | "nodes">,
): { encryption: SecurityClass; mtuBytes: number } {
  for (const name of Object.keys(options))
    if (!KNOWN.has(name) && !name.startsWith("com.docker."))
      throw new OverlayError({
        code: "INVALID",
        message: `overlay-ts knows no network option ${name}`,
        next: "known are encryption, encrypted and mtu",
      });
  const encryption = encryptionOf(options, state);
  // Refused, never quietly sent in clear (CVE-2023-28841 was a warning and clear text).
  if (encryption !== "none")
    throw new OverlayError({
      code: "UNSUPPORTED",
      message: `this version cannot encrypt a network (${encryption})`,
      next: "leave the option away for a network in clear",
    });
  return { encryption, mtuBytes: mtuOf(options, state) };
}

function encryptionOf(
  options: Readonly<Record<string, string>>,
  { settings }: Pick<ClusterState, "settings">,
): SecurityClass {
  const kind = options["encryption"];
  const flag = options["encrypted"];
  if (kind !== undefined) {
    const parsed = SecurityClassSchema.safeParse(kind);
    if (parsed.success) return parsed.data;
    throw new OverlayError({
      code: "INVALID",
      message: `encryption=${kind} is not one of ${SecurityClassSchema.options.join(", ")}`,
    });
  }
  if (flag === undefined) return settings.defaultEncryption;
  return flag === "false" ? "none" : settings.encryptedMeans;
}

function mtuOf(
  options: Readonly<Record<string, string>>,
  { settings, nodes }: Pick<ClusterState, "settings" | "nodes">,
): number {
  const underlay = Math.min(...nodes.map((node) => node.underlayMtuBytes));
  const most =
    (nodes.length === 0 ? 1500 : underlay) - VXLAN_OVERHEAD_BYTES[settings.underlayFamily];
  const asked = options["mtu"] ?? options["com.docker.network.driver.mtu"];
  if (asked === undefined) return most;
  const mtu = Number(asked);
  if (!Number.isInteger(mtu) || mtu < 576 || mtu > most)
    throw new OverlayError({
      code: "INVALID",
      message: `an MTU of ${asked} does not fit: 576 to ${most} bytes on this cluster's hosts`,
    });
  return mtu;
}
