import { OverlayError } from "../../shared/errors.ts";
import { portHolder } from "../../shared/node/port-holder.ts";

/** Who has the port of a VXLAN device that the kernel would not set up. */

/** The failure of a device's set-up by its cause: EADDRINUSE is the UDP port's. */
export function withPortNamed(error: unknown, udpPort: number): unknown {
  if (!(error instanceof OverlayError) || error.errno !== "EADDRINUSE") return error;
  const holder = portHolder("udp", udpPort);
  return new OverlayError(
    {
      code: "PORT_TAKEN",
      op: error.op ?? "IFF_UP",
      errno: "EADDRINUSE",
      message: `UDP port ${udpPort}, which VXLAN needs, is taken by ${holder ?? "another device or program"}`,
      next: `end it, or give it another port: \`ss -Hulnp sport = :${udpPort}\`, \`ip -d link show type vxlan\``,
    },
    { cause: error },
  );
}
