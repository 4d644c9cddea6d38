import { OverlayError } from "../../../shared/errors.ts";
import { portHolder } from "../../../shared/node/port-holder.ts";
import type { PeerChange } from "../../core/keys/wireguard.ts";
import type { Link } from "../../kernel/netlink/route.ts";
import type { WireguardDevice } from "../../kernel/netlink/wireguard.ts";
import type { WireguardState } from "./port.ts";
import type { Secret } from "../secret.ts";

/** The one name of the device, in the transport namespace and of its process. */
export const WIREGUARD_DEVICE = "ovwg0";

/** The driver of the device: the kernel or wireguard-go. The interface is the same for both. */
export interface DeviceDriver {
  readonly by: WireguardState["by"];
  /** The interface in the transport namespace, down. @throws UNSUPPORTED when this host cannot. */
  make(mtuBytes: number): Promise<void>;
  read(): Promise<WireguardDevice>;
  setIdentity(privateKey: Secret, listenPort: number): Promise<void>;
  /** In order; peers that are not named stay as they are, with their sessions. */
  change(changes: readonly PeerChange[]): Promise<void>;
  /** Until its UDP socket is open. @throws PORT_TAKEN */
  up(link: Link, mtuBytes: number, listenPort: number): Promise<void>;
  /** The interface and what runs it; gone already is success. */
  unmake(): Promise<void>;
  close(): void;
}

/** Either may say so: who sets the port of a device that is up, and who sets it up. */
export async function needingPort<T>(port: number, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof OverlayError) || error.errno !== "EADDRINUSE") throw error;
    throw portTaken(port, error);
  }
}

export function portTaken(port: number, cause?: unknown): OverlayError {
  return new OverlayError(
    {
      code: "PORT_TAKEN",
      message: `UDP port ${port}, which WireGuard needs, is taken by ${portHolder("udp", port) ?? "another program or device"}`,
      next: `end it, or give it another port: \`ss -Hulnp sport = :${port}\``,
    },
    { cause },
  );
}
