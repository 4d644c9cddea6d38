import { type ClusterState, NetworkRecord, SecurityClass } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { oneLine } from "../../shared/text.ts";
import { largestMtuBytes } from "../../shared/mtu.ts";

const KNOWN = [
  "encryption",
  "encrypted",
  "mtu",
  "com.docker.network.driver.mtu",
  "multicast",
  "dns.unhealthy",
  // What it asks for is asked by the hosts (agent/core/balancing/vip-wish.ts).
  "vip",
  // Docker carries these out itself, for every driver (moby daemon/network.go, libnetwork/network.go).
  "com.docker.network.enable_ipv4",
  "com.docker.network.enable_ipv6",
  "com.docker.network.advertise_addr_nmsgs",
  "com.docker.network.advertise_addr_ms",
];

/** `-o` options of a network. @throws INVALID: never a network other than asked for. */
export function readOptions(
  options: Readonly<Record<string, string>>,
  state: Pick<ClusterState, "settings" | "nodes">,
): Pick<NetworkRecord, "encryption" | "mtuBytes" | "multicast" | "unhealthyNames"> {
  for (const name of Object.keys(options))
    if (!KNOWN.includes(name))
      throw new OverlayError({
        code: "INVALID",
        message: `overlay-ts knows no network option ${oneLine(name, 64)}`,
        next: `known are ${KNOWN.join(", ")}`,
      });
  const encryption = encryptionOf(options, state);
  flagOf("vip", options["vip"]);
  return {
    encryption,
    mtuBytes: mtuOf(options, state, encryption),
    multicast: flagOf("multicast", options["multicast"]) ?? false,
    unhealthyNames: unhealthyNamesOf(options["dns.unhealthy"]),
  };
}

function unhealthyNamesOf(text: string | undefined): NetworkRecord["unhealthyNames"] {
  const { unhealthyNames } = NetworkRecord.shape;
  const parsed = unhealthyNames.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new OverlayError({
    code: "INVALID",
    message: `dns.unhealthy=${oneLine(text ?? "", 64)} is not one of ${unhealthyNames.unwrap().options.join(", ")}`,
    next: "give one of these, or leave the option away",
  });
}

function encryptionOf(
  options: Readonly<Record<string, string>>,
  { settings }: Pick<ClusterState, "settings">,
): SecurityClass {
  const kind = options["encryption"];
  const flag = options["encrypted"];
  if (kind !== undefined) {
    const parsed = SecurityClass.safeParse(kind);
    if (parsed.success) return parsed.data;
    throw new OverlayError({
      code: "INVALID",
      message: `encryption=${oneLine(kind, 64)} is not one of ${SecurityClass.options.join(", ")}`,
      next: "give one of these, or leave the option away",
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
    message: `${name}=${oneLine(text, 64)} is neither true nor false`,
    next: `give \`${name}\`, \`${name}=true\` or \`${name}=false\``,
  });
}

function mtuOf(
  options: Readonly<Record<string, string>>,
  { settings, nodes }: Pick<ClusterState, "settings" | "nodes">,
  encryption: SecurityClass,
): number {
  const underlay = Math.min(...nodes.map((node) => node.underlayMtuBytes));
  const most = largestMtuBytes(settings, nodes.length === 0 ? 1500 : underlay, encryption);
  const asked = options["mtu"] ?? options["com.docker.network.driver.mtu"];
  if (asked === undefined) return most;
  const mtu = /^\d{1,5}$/.test(asked) ? Number(asked) : NaN;
  if (!(mtu >= 576 && mtu <= most))
    throw new OverlayError({
      code: "INVALID",
      message: `an MTU of ${oneLine(asked, 64)} does not fit: 576 to ${most} bytes on this cluster's hosts`,
      next: "give one between these, or leave the option away",
    });
  return mtu;
}
