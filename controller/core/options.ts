import type { ClusterState, SecurityClass } from "../../shared/cluster-state.ts";
import { SecurityClass as SecurityClassSchema } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { largestMtuBytes } from "../../shared/vxlan.ts";

const KNOWN = new Set([
  "encryption",
  "encrypted",
  "mtu",
  "com.docker.network.driver.mtu",
  "multicast",
  "overlay-ts.network",
]);

/** `-o` options of a network. @throws INVALID, UNSUPPORTED: never a network other than asked for. */
export function readOptions(
  options: Readonly<Record<string, string>>,
  state: Pick<ClusterState, "settings" | "nodes">,
): { encryption: SecurityClass; mtuBytes: number; multicast: boolean } {
  for (const name of Object.keys(options))
    if (!KNOWN.has(name) && !name.startsWith("com.docker."))
      throw new OverlayError({
        code: "INVALID",
        message: `overlay-ts knows no network option ${name}`,
        next: "known are encryption, encrypted, mtu and multicast",
      });
  const encryption = encryptionOf(options, state);
  // Refused, never quietly sent in clear (CVE-2023-28841 was a warning and clear text).
  if (encryption !== "none")
    throw new OverlayError({
      code: "UNSUPPORTED",
      message: `this version cannot encrypt a network (${encryption})`,
      next: "leave the option away for a network in clear",
    });
  return {
    encryption,
    mtuBytes: mtuOf(options, state),
    multicast: flagOf("multicast", options["multicast"]) ?? false,
  };
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
  const encrypted = flagOf("encrypted", flag);
  if (encrypted === undefined) return settings.defaultEncryption;
  return encrypted ? settings.encryptedMeans : "none";
}

/** As Docker's own drivers read a flag: `-o name` alone is yes. */
function flagOf(name: string, text: string | undefined): boolean | undefined {
  if (text === undefined) return undefined;
  if (["", "true", "1"].includes(text)) return true;
  if (["false", "0"].includes(text)) return false;
  throw new OverlayError({
    code: "INVALID",
    message: `${name}=${text} is neither true nor false`,
  });
}

function mtuOf(
  options: Readonly<Record<string, string>>,
  { settings, nodes }: Pick<ClusterState, "settings" | "nodes">,
): number {
  const underlay = Math.min(...nodes.map((node) => node.underlayMtuBytes));
  const most = largestMtuBytes(settings, nodes.length === 0 ? 1500 : underlay);
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
