import { type ClientRequest, type IncomingMessage, request as httpRequest } from "node:http";
import { z } from "zod";
import { asFailure, OverlayError } from "../../shared/errors.ts";
import { DockerNetworkId, EndpointId } from "../../shared/ids.ts";
import { parseInterfaceAddress } from "../../shared/ip.ts";
import { readAll } from "../../shared/node/unix-http.ts";
import type {
  Connection,
  DockerEngine,
  EngineContainer,
  EngineInfo,
  EngineNetwork,
  NewEngineNetwork,
} from "./engine-port.ts";
import { DRIVER } from "./views.ts";

const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
const TIMEOUT_MS = 30_000;
const EVENTS = ["create", "destroy", "remove", "prune", "rename", "connect", "disconnect"];

const Strings = z
  .record(z.string(), z.string())
  .nullish()
  .transform((value) => value ?? {});

const NetworkJson = z.object({
  Id: DockerNetworkId,
  Name: z.string(),
  Driver: z.string(),
  Internal: z.boolean().default(false),
  Attachable: z.boolean().default(false),
  Labels: Strings,
  Options: Strings,
  IPAM: z
    .object({
      Driver: z.string().default(""),
      Config: z
        .array(z.object({ Subnet: z.string().optional(), IPRange: z.string().optional() }))
        .nullish(),
    })
    .nullish(),
});

const InspectJson = z.object({
  Containers: z.record(z.string(), z.object({ EndpointID: EndpointId })).nullish(),
});

const ContainersJson = z.array(
  z.object({
    Id: z.string(),
    State: z.string(),
    NetworkSettings: z
      .object({ Networks: z.record(z.string(), z.object({ NetworkID: z.string() })).nullish() })
      .nullish(),
  }),
);

const ContainerJson = z.object({
  NetworkSettings: z.object({
    Networks: z.record(
      z.string(),
      z.object({
        NetworkID: z.string().default(""),
        Aliases: z.array(z.string()).nullish(),
        Links: z.array(z.string()).nullish(),
        IPAMConfig: z.record(z.string(), z.unknown()).nullish(),
      }),
    ),
  }),
});

const NO_CONTAINER = { NetworkSettings: { Networks: {} } };

const InfoJson = z.object({
  ServerVersion: z.string().default(""),
  OperatingSystem: z.string().default(""),
  SecurityOptions: z.array(z.string()).nullish(),
  DockerRootDir: z.string().default(""),
});

/** Docker's Engine API over its unix socket, without a version in the path: the engine's own. */
export class EngineClient implements DockerEngine {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  async info(): Promise<EngineInfo> {
    const info = InfoJson.parse(await this.#call("GET", "/info"));
    return {
      version: info.ServerVersion,
      operatingSystem: info.OperatingSystem,
      securityOptions: info.SecurityOptions ?? [],
      dataRoot: info.DockerRootDir,
    };
  }

  async networks(): Promise<EngineNetwork[]> {
    const list = z.array(NetworkJson).parse(await this.#call("GET", "/networks"));
    return list.map((network) => ({
      id: network.Id,
      name: network.Name,
      driver: network.Driver,
      internal: network.Internal,
      attachable: network.Attachable,
      labels: network.Labels,
      options: network.Options,
      subnets: (network.IPAM?.Config ?? []).flatMap(({ Subnet }) => Subnet ?? []),
      dockerRanges:
        network.IPAM?.Driver === DRIVER
          ? []
          : (network.IPAM?.Config ?? []).flatMap(({ IPRange }) =>
              IPRange ? [parseInterfaceAddress(IPRange).subnet] : [],
            ),
    }));
  }

  async endpoints(network: DockerNetworkId): Promise<EndpointId[]> {
    const found = InspectJson.parse(await this.#call("GET", `/networks/${network}`));
    return Object.values(found.Containers ?? {}).map(({ EndpointID }) => EndpointID);
  }

  async containers(): Promise<EngineContainer[]> {
    const list = ContainersJson.parse(await this.#call("GET", "/containers/json?all=1"));
    return list.map(({ Id, State, NetworkSettings }) => ({
      id: Id,
      running: State === "running" || State === "paused" || State === "restarting",
      networks: Object.entries(NetworkSettings?.Networks ?? {}).map(([name, { NetworkID }]) => ({
        name,
        id: DockerNetworkId.safeParse(NetworkID).data,
      })),
    }));
  }

  async connections({ id, name }: Pick<EngineNetwork, "id" | "name">): Promise<Connection[]> {
    const filters = encodeURIComponent(JSON.stringify({ network: [id, name] }));
    const path = `/containers/json?all=1&filters=${filters}`;
    const listed = ContainersJson.parse(await this.#call("GET", path));
    const found: Connection[] = [];
    for (const { Id, State } of listed) {
      const json = await this.#call("GET", `/containers/${Id}/json`).catch(gone);
      const held = ContainerJson.parse(json ?? NO_CONTAINER).NetworkSettings.Networks[name];
      // None yet before the first start; another one's with engines that let two have one name.
      if (held === undefined || !["", id].includes(held.NetworkID)) continue;
      found.push({
        container: Id,
        started: State !== "created",
        aliases: held.Aliases ?? [],
        links: held.Links ?? [],
        addresses: held.IPAMConfig ?? {},
      });
    }
    return found;
  }

  async connect(network: string, connection: Connection): Promise<void> {
    const { container, aliases, links, addresses } = connection;
    await this.#call("POST", `/networks/${network}/connect`, {
      Container: container,
      EndpointConfig: { Aliases: aliases, Links: links, IPAMConfig: addresses },
    });
  }

  async disconnect(network: DockerNetworkId, { container }: Connection): Promise<void> {
    await this.#call("POST", `/networks/${network}/disconnect`, {
      Container: container,
      Force: true,
    });
  }

  async createNetwork(request: NewEngineNetwork): Promise<DockerNetworkId> {
    const answer = await this.#call("POST", "/networks/create", {
      Name: request.name,
      CheckDuplicate: true,
      Driver: request.driver,
      Internal: request.internal,
      Attachable: request.attachable,
      EnableIPv6: request.ipv6,
      Labels: request.labels,
      Options: request.options,
      IPAM: {
        Driver: request.ipam.driver,
        Options: request.ipam.options,
        Config: request.ipam.config.map(({ subnet, gateway }) => ({
          Subnet: subnet,
          ...(gateway === undefined ? {} : { Gateway: gateway }),
        })),
      },
    });
    return z.object({ Id: DockerNetworkId }).parse(answer).Id;
  }

  async removeNetwork(network: DockerNetworkId): Promise<void> {
    await this.#call("DELETE", `/networks/${network}`);
  }

  async *events(signal: AbortSignal): AsyncGenerator<void> {
    // Not every event of containers: health checks and `docker exec` would be most of them.
    const filters = encodeURIComponent(
      JSON.stringify({ type: ["network", "container"], event: EVENTS }),
    );
    const response = await this.#open("GET", `/events?filters=${filters}`, undefined, signal);
    // What happened is not read: the hint says when to look, and the look is the truth.
    yield;
    for await (const _ of response as AsyncIterable<Buffer>) yield;
  }

  async #call(method: string, path: string, body?: unknown): Promise<unknown> {
    const response = await this.#open(method, path, body, AbortSignal.timeout(TIMEOUT_MS));
    const text = (await readAll(response, MAX_ANSWER_BYTES)).toString();
    const status = response.statusCode ?? 500;
    if (status < 300) return text === "" ? undefined : (JSON.parse(text) as unknown);
    throw new OverlayError({
      code: status === 404 ? "NOT_FOUND" : status === 409 ? "CONFLICT" : "DOCKER",
      op: `${method} ${path.split("?")[0]}`,
      message: `Docker refused: ${messageOf(text)}`,
    });
  }

  #open(
    method: string,
    path: string,
    body: unknown,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const headers = body === undefined ? {} : { "content-type": "application/json" };
      const request: ClientRequest = httpRequest(
        { socketPath: this.#socketPath, method, path, headers, signal },
        resolve,
      );
      request.on("error", (cause) =>
        reject(
          new OverlayError(
            {
              code: "UNREACHABLE",
              message: `the Docker engine does not answer on ${this.#socketPath}: ${asFailure(cause).message}`,
              next: "start it: `systemctl start docker`",
            },
            { cause },
          ),
        ),
      );
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}

/** What ended between two calls. */
function gone(error: unknown): undefined {
  if (!(error instanceof OverlayError) || error.code !== "NOT_FOUND") throw error;
}

function messageOf(text: string): string {
  try {
    return z.object({ message: z.string() }).parse(JSON.parse(text)).message;
  } catch {
    return text.slice(0, 200);
  }
}

/** Why networks of ours cannot work there, as a sentence; undefined: they can. */
export function unsupportedKind({
  operatingSystem,
  securityOptions,
}: EngineInfo): string | undefined {
  const has = (name: string): boolean =>
    securityOptions.some((option) => option.split(",").includes(`name=${name}`));
  if (has("rootless")) return "a rootless engine keeps its containers where we cannot reach them";
  if (has("userns")) return "userns-remap is not supported";
  if (/Docker Desktop/.test(operatingSystem))
    return "Docker Desktop runs its engine in a machine of its own";
  return undefined;
}
