import type { Failure } from "../../../shared/errors.ts";
import type { Cidr } from "../../../shared/ip.ts";
import type { DockerEngine } from "./port.ts";

const NAME = "docker_gwbridge";
/** Who made it: one that Swarm or Docker made is not ours to remove. */
const MADE_LABEL = "overlay-ts.made";

/**
 * Docker's way out for containers on networks of ours. Made by us before any view, with a subnet
 * outside Docker's pools: made by Docker on a host that has a view already, it would get that
 * view's subnet, and `docker run` would fail.
 * @returns a warning when it was there with another subnet.
 */
export async function ensureGwbridge(
  engine: DockerEngine,
  subnet: Cidr,
): Promise<Failure | undefined> {
  const held = (await engine.networks()).find(({ name }) => name === NAME);
  if (held !== undefined)
    return held.subnets.includes(subnet)
      ? undefined
      : {
          code: "DOCKER",
          message: `${NAME} has ${held.subnets.join(", ")}, not the cluster's ${subnet}: networks must not overlap it`,
          next: `when no container runs on a network of ours, \`docker network rm ${NAME}\`: it is made again`,
        };
  await engine.createNetwork({
    name: NAME,
    driver: "bridge",
    internal: false,
    attachable: false,
    ipv6: false,
    labels: { [MADE_LABEL]: "" },
    // As libnetwork makes it (moby daemon/libnetwork/controller.go, default_gateway_linux.go).
    options: {
      "com.docker.network.bridge.name": NAME,
      "com.docker.network.bridge.enable_icc": "false",
      "com.docker.network.bridge.enable_ip_masquerade": "true",
    },
    ipam: { driver: "default", options: {}, config: [{ subnet }] },
  });
  return undefined;
}

/** Only ours; one that a container still uses Docker refuses to remove. @throws DOCKER */
export async function removeGwbridge(
  engine: Pick<DockerEngine, "networks" | "removeNetwork">,
): Promise<void> {
  const held = (await engine.networks()).find(({ name }) => name === NAME);
  if (held !== undefined && MADE_LABEL in held.labels) await engine.removeNetwork(held.id);
}
