import { createServer, type IncomingMessage, type Server } from "node:http";
import { BOUNDS } from "../../shared/bounds.ts";
import { asFailure, OverlayError } from "../../shared/errors.ts";
import { prefixLength } from "../../shared/ip.ts";
import { listenUnix, readAll, type UnixAddress } from "../../shared/node/unix-http.ts";
import type { Log } from "../../shared/ports.ts";
import type { IpamDriver, NetworkDriver } from "./port.ts";
import * as protocol from "./protocol.ts";

/** dockerd has no time limit of its own: a call that hangs would hang it. */
export const CALL_TIMEOUT_MS = 25_000;

type Calls = Readonly<Record<string, (body: unknown) => Promise<unknown>>>;

export interface PluginModules {
  readonly network: NetworkDriver;
  readonly ipam: IpamDriver;
  readonly log: Log;
  /** How long a call that comes now may take. */
  readonly timeoutMs?: () => number;
}

/** Docker's v1 plugin protocol on a unix socket: HTTP POST, JSON both ways. */
export class PluginServer {
  readonly #address: UnixAddress;
  readonly #log: Log;
  readonly #timeoutMs: () => number;
  readonly #server: Server;

  constructor(address: UnixAddress, { network, ipam, log, timeoutMs }: PluginModules) {
    this.#address = address;
    this.#log = log;
    this.#timeoutMs = timeoutMs ?? (() => CALL_TIMEOUT_MS);
    const calls = { ...general(), ...networkCalls(network), ...ipamCalls(ipam) };
    this.#server = createServer((request, response) => {
      void this.#answer(calls, request).then(({ status, body }) => {
        response.writeHead(status, {
          "content-type": "application/vnd.docker.plugins.v1.2+json",
        });
        response.end(JSON.stringify(body));
      });
    });
  }

  /** @throws PORT_TAKEN */
  start(): Promise<void> {
    return listenUnix(this.#server, this.#address);
  }

  /** Calls under way are answered first. */
  async stop(): Promise<void> {
    this.#server.closeIdleConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(
    calls: Calls,
    request: IncomingMessage,
  ): Promise<{ status: number; body: unknown }> {
    const name = (request.url ?? "").slice(1);
    try {
      const call = Object.hasOwn(calls, name) ? calls[name] : undefined;
      if (call === undefined)
        throw new OverlayError({ code: "UNSUPPORTED", message: `overlay-ts has no ${name}` });
      const bytes = await readAll(request, BOUNDS.httpBodyBytes);
      // Activate and the Get calls have an empty body.
      const body: unknown = bytes.length === 0 ? {} : JSON.parse(bytes.toString());
      const begunMs = performance.now();
      const answer = await withDeadline(call(body), name, this.#timeoutMs());
      this.#log.debug({ name, ms: Math.round(performance.now() - begunMs) }, "plugin call");
      return { status: 200, body: answer };
    } catch (error) {
      const { code, message, next } = asFailure(error);
      this.#log.warn({ name, code, message }, "plugin call failed");
      const text = next === undefined ? message : `${message} (${next})`;
      // Network calls read Err, IPAM calls Error; a 200 with either would count as success to the other.
      return { status: 500, body: { Err: text, Error: text } };
    }
  }
}

function general(): Calls {
  return {
    "Plugin.Activate": async () => ({ Implements: ["NetworkDriver", "IpamDriver"] }),
  };
}

function networkCalls(driver: NetworkDriver): Calls {
  const nothing = async (): Promise<object> => ({});
  return {
    "NetworkDriver.GetCapabilities": async () => ({ Scope: "local", ConnectivityScope: "global" }),
    "NetworkDriver.CreateNetwork": async (body) => {
      await driver.createNetwork(protocol.readCreateNetwork(body));
      return {};
    },
    "NetworkDriver.DeleteNetwork": async (body) => {
      await driver.deleteNetwork(protocol.readNetwork(body));
      return {};
    },
    "NetworkDriver.CreateEndpoint": async (body) => {
      const request = protocol.readCreateEndpoint(body);
      const { mac } = await driver.createEndpoint(request);
      return { Interface: request.macGiven ? {} : { MacAddress: mac } };
    },
    "NetworkDriver.DeleteEndpoint": async (body) => {
      const { network, endpoint } = protocol.readEndpoint(body);
      await driver.deleteEndpoint(network, endpoint);
      return {};
    },
    "NetworkDriver.EndpointOperInfo": async () => ({ Value: {} }),
    "NetworkDriver.Join": async (body) => {
      const { link, prefix, internal } = await driver.join(protocol.readJoin(body));
      // No Gateway: Docker's own docker_gwbridge is the way out, and serves -p.
      return {
        InterfaceName: { SrcName: link, DstPrefix: prefix },
        DisableGatewayService: internal,
      };
    },
    "NetworkDriver.Leave": async (body) => {
      const { network, endpoint } = protocol.readEndpoint(body);
      await driver.leave(network, endpoint);
      return {};
    },
    "NetworkDriver.DiscoverNew": nothing,
    "NetworkDriver.DiscoverDelete": nothing,
    "NetworkDriver.ProgramExternalConnectivity": nothing,
    "NetworkDriver.RevokeExternalConnectivity": nothing,
    "NetworkDriver.AllocateNetwork": nothing,
    "NetworkDriver.FreeNetwork": nothing,
    "NetworkDriver.GwAllocCheck": async () => ({ SkipIPv4: true, SkipIPv6: true }),
  };
}

function ipamCalls(driver: IpamDriver): Calls {
  return {
    "IpamDriver.GetCapabilities": async () => ({
      RequiresMACAddress: false,
      RequiresRequestReplay: false,
    }),
    "IpamDriver.GetDefaultAddressSpaces": async () => ({
      LocalDefaultAddressSpace: protocol.ADDRESS_SPACE,
      GlobalDefaultAddressSpace: `${protocol.ADDRESS_SPACE}-global`,
    }),
    "IpamDriver.RequestPool": async (body) => {
      const { id, subnet } = await driver.requestPool(protocol.readRequestPool(body));
      return { PoolID: id, Pool: subnet, Data: {} };
    },
    "IpamDriver.ReleasePool": async (body) => {
      await driver.releasePool(protocol.readPool(body));
      return {};
    },
    "IpamDriver.RequestAddress": async (body) => {
      const { ip, subnet } = await driver.requestAddress(protocol.readRequestAddress(body));
      return { Address: `${ip}/${prefixLength(subnet)}`, Data: {} };
    },
    "IpamDriver.ReleaseAddress": async (body) => {
      const { pool, ip } = protocol.readReleaseAddress(body);
      await driver.releaseAddress(pool, ip);
      return {};
    },
  };
}

async function withDeadline<T>(work: Promise<T>, name: string, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new OverlayError({
            code: "TIMEOUT",
            message: `overlay-ts did not finish ${name} in ${timeoutMs / 1000} s`,
            next: "see `overlay-ts status` for what it waits for",
          }),
        ),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
