import type { PeerChange } from "../core/wireguard.ts";
import type { WireguardDevice } from "../kernel/netlink/wireguard.ts";
import type { WireguardState } from "./port.ts";
import type { Secret } from "./secret.ts";

/** The one name of the device, in the transport namespace and of its process. */
export const WIREGUARD_DEVICE = "ovwg0";

/** What runs the device: the kernel, or a process. The interface itself is the same for both. */
export interface DeviceDriver {
  readonly by: WireguardState["by"];
  /** The interface in the transport namespace, down. @throws UNSUPPORTED when this host cannot. */
  make(mtuBytes: number): Promise<void>;
  read(): Promise<WireguardDevice>;
  setIdentity(privateKey: Secret, listenPort: number): Promise<void>;
  /** In order; peers that are not named stay as they are, with their sessions. */
  change(changes: readonly PeerChange[]): Promise<void>;
  /** The interface is up: until its UDP socket is open. @throws PORT_TAKEN */
  opened(listenPort: number): Promise<void>;
  /** The interface and what runs it. */
  unmake(): Promise<void>;
  close(): void;
}
