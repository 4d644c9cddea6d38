import { type ClientRequest, type IncomingMessage, request as httpRequest } from "node:http";
import { z } from "zod";
import { asFailure, OverlayError } from "../../../shared/errors.ts";
import { DockerNetworkId } from "../../../shared/ids.ts";
import { readAll } from "../../../shared/node/unix-http.ts";
import {
  AttachmentsJson,
  connectionIn,
  ContainerJson,
  ContainersJson,
  InfoJson,
  NetworksJson,
  readEvent,
} from "./json.ts";
import type {
  Attachments,
  Connection,
  ContainerDetails,
  ContainerEvent,
  ContainerId,
  DockerEngine,
  EngineContainer,
  EngineEvent,
  EngineInfo,
  EngineNetwork,
  NewEngineNetwork,
} from "./port.ts";

const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
const TIMEOUT_MS = 30_000;
/** A line of the stream: labels are in it, and an image can have many. */
const MAX_EVENT_CHARACTERS = 4 * 1024 * 1024;
/** Not every event of containers: the runs of health checks and `docker exec` would be most of them. */
const EVENTS = {
  container: ["create", "start", "die", "kill", "pause", "unpause", "rename", "destroy"],
  network: ["create", "destroy", "remove", "prune", "connect", "disconnect"],
  // Each is another action, `health_status: healthy`: moby's filter takes the beginning.
  health: ["health_status"],
};

/** Docker's Engine API over its unix socket, without a version in the path: the engine's own. */
export class EngineClient implements DockerEngine {
  readonly #socketPath: string;
  readonly #timeoutMs: number;

  constructor(socketPath: string, timeoutMs = TIMEOUT_MS) {
    this.#socketPath = socketPath;
    this.#timeoutMs = timeoutMs;
  }

  async info(): Promise<EngineInfo> {
    return InfoJson.parse(await this.#call("GET", "/info"));
  }

  async networks(): Promise<EngineNetwork[]> {
    return NetworksJson.parse(await this.#call("GET", "/networks"));
  }

  async attachments(network: DockerNetworkId): Promise<Attachments> {
    return AttachmentsJson.parse(await this.#call("GET", `/networks/${network}`));
  }

  async containers(): Promise<EngineContainer[]> {
    return ContainersJson.parse(await this.#call("GET", "/containers/json?all=1"));
  }

  async inspect(container: ContainerId): Promise<ContainerDetails | undefined> {
    const json = await this.#call("GET", `/containers/${container}/json`).catch(gone);
    return json === undefined ? undefined : ContainerJson.parse(json);
  }

  async connections(network: Pick<EngineNetwork, "id" | "name">): Promise<Connection[]> {
    const filters = encodeURIComponent(JSON.stringify({ network: [network.id, network.name] }));
    const path = `/containers/json?all=1&filters=${filters}`;
    const listed = z
      .array(z.object({ Id: z.string(), State: z.string() }))
      .parse(await this.#call("GET", path));
    const found: Connection[] = [];
    for (const { Id, State } of listed) {
      const held = await this.connection(Id, network);
      if (held !== undefined) found.push({ ...held, started: State !== "created" });
    }
    return found;
  }

  async connection(
    container: ContainerId,
    network: Pick<EngineNetwork, "id" | "name">,
  ): Promise<Omit<Connection, "started"> | undefined> {
    const json = await this.#call("GET", `/containers/${container}/json`).catch(gone);
    const held = json === undefined ? undefined : connectionIn(json, network);
    return held && { container, ...held };
  }

  async connect(network: string, connection: Omit<Connection, "started">): Promise<void> {
    const { container, aliases, links, addresses } = connection;
    await this.#call("POST", `/networks/${network}/connect`, {
      Container: container,
      EndpointConfig: { Aliases: aliases, Links: links, IPAMConfig: addresses },
    });
  }

  async disconnect(
    network: DockerNetworkId,
    { container }: Pick<Connection, "container">,
  ): Promise<void> {
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

  async *events(signal: AbortSignal): AsyncGenerator<EngineEvent> {
    const filters = { type: ["network", "container"], event: Object.values(EVENTS).flat() };
    const path = `/events?filters=${encodeURIComponent(JSON.stringify(filters))}`;
    const response = await this.#open("GET", path, undefined, signal);
    yield { kind: "listening" };
    let rest = "";
    for await (const chunk of response.setEncoding("utf8") as AsyncIterable<string>) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > MAX_EVENT_CHARACTERS) throw tooLong();
      for (const line of lines) {
        const event = line === "" ? undefined : readEvent(line);
        if (event !== undefined) yield event;
      }
    }
  }

  async remembered(): Promise<ContainerEvent[]> {
    const filters = encodeURIComponent(
      JSON.stringify({ type: ["container"], event: ["kill", "pause"] }),
    );
    // Until a moment that has passed: then the engine does not go on with what happens.
    const untilS = Date.now() / 1000;
    const text = await this.#text("GET", `/events?since=0&until=${untilS}&filters=${filters}`);
    const events = text.split("\n").map((line) => (line === "" ? undefined : readEvent(line)));
    return events.flatMap((event) => (event?.kind === "container" ? [event] : []));
  }

  async #call(method: string, path: string, body?: unknown): Promise<unknown> {
    const text = await this.#text(method, path, body);
    return text === "" ? undefined : (JSON.parse(text) as unknown);
  }

  async #text(method: string, path: string, body?: unknown): Promise<string> {
    const response = await this.#open(method, path, body, AbortSignal.timeout(this.#timeoutMs));
    const text = (await readAll(response, MAX_ANSWER_BYTES)).toString();
    const status = response.statusCode ?? 500;
    if (status < 300) return text;
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
      request.on("error", (cause) => reject(this.#unanswered(cause)));
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** One that takes what it is asked and is silent runs, and is not helped by being started. */
  #unanswered(cause: Error): OverlayError {
    const isSlow = cause.cause instanceof Error && cause.cause.name === "TimeoutError";
    const where = `the Docker engine does not answer on ${this.#socketPath}`;
    return new OverlayError(
      {
        code: "UNREACHABLE",
        message: isSlow
          ? `${where}: it takes connections, and has said nothing for ${this.#timeoutMs / 1000} s`
          : `${where}: ${asFailure(cause).message}`,
        next: isSlow
          ? "see what keeps it, `journalctl -u docker`; one that hangs needs `systemctl restart docker`"
          : "start it: `systemctl start docker`",
      },
      { cause },
    );
  }
}

function tooLong(): OverlayError {
  return new OverlayError({ code: "DOCKER", message: "an event of Docker is too long to be one" });
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
