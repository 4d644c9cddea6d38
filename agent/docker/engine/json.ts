import { z } from "zod";
import { BOUNDS } from "../../../shared/bounds.ts";
import { DockerNetworkId, EndpointId } from "../../../shared/ids.ts";
import { Cidr, parseInterfaceAddress } from "../../../shared/ip.ts";
import { BUILT_IN_POOLS, type DefaultPool } from "./default-pools.ts";
import {
  type Attachments,
  type Connection,
  type ContainerDetails,
  type EngineContainer,
  type EngineEvent,
  type EngineInfo,
  type EngineNetwork,
  type Health,
  HEALTHS,
  type RunState,
} from "./port.ts";
import { signalNumber } from "./signals.ts";
import { DRIVER } from "../views.ts";

/** What the Engine API answers (docs.docker.com/engine/api), read into the port's types. */

const Strings = z
  .record(z.string(), z.string())
  .nullish()
  .transform((value) => value ?? {});

const Texts = z
  .array(z.string())
  .nullish()
  .transform((value) => value ?? []);

/** Empty where there is none (yet). */
const optional = <S extends z.ZodType>(schema: S) =>
  z.unknown().transform((value): z.infer<S> | undefined => schema.safeParse(value).data);

const Network = z.object({
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

export const NetworksJson = z.array(Network).transform((list): EngineNetwork[] =>
  list.map((network) => ({
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
  })),
);

/** Endpoints without a sandbox have a made-up container id (moby buildContainerAttachments: `ep-…`). */
export const AttachmentsJson = z
  .object({
    Name: z.string(),
    Internal: z.boolean().default(false),
    Containers: z.record(z.string(), z.object({ EndpointID: EndpointId })).nullish(),
  })
  .transform(({ Name, Internal, Containers }): Attachments => ({
    name: Name,
    internal: Internal,
    endpoints: Object.entries(Containers ?? {}).map(([id, { EndpointID }]) => ({
      container: id.startsWith("ep-") ? undefined : id,
      endpoint: EndpointID,
    })),
  }));

const Listed = z.object({
  Id: z.string(),
  Names: Texts,
  State: z.string(),
  Status: z.string().default(""),
  NetworkSettings: z
    .object({
      Networks: z
        .record(
          z.string(),
          z.object({ NetworkID: optional(DockerNetworkId), EndpointID: optional(EndpointId) }),
        )
        .nullish(),
    })
    .nullish(),
});

export const ContainersJson = z.array(Listed).transform((list): EngineContainer[] =>
  list.map(({ Id, Names, State, Status, NetworkSettings }) => ({
    id: Id,
    // Others are links: `/web/db`.
    name: (Names.find((name) => !name.slice(1).includes("/")) ?? Id).replace(/^\//, ""),
    running: State === "running" || State === "paused" || State === "restarting",
    state: State === "running" ? "up" : State === "paused" ? "paused" : "down",
    health: healthIn(Status),
    networks: Object.entries(NetworkSettings?.Networks ?? {}).map(
      ([name, { NetworkID, EndpointID }]) => ({ name, id: NetworkID, endpoint: EndpointID }),
    ),
  })),
);

const EndpointSettings = z.object({
  NetworkID: z.string().default(""),
  EndpointID: optional(EndpointId),
  IPAddress: z.string().nullish(),
  Aliases: Texts,
  Links: Texts,
  IPAMConfig: z.record(z.string(), z.unknown()).nullish(),
});

const Connected = z.object({
  NetworkSettings: z.object({
    SandboxKey: z.string().default(""),
    Networks: z.record(z.string(), EndpointSettings),
  }),
});

/** What the user asked for the container's connection to the network of that name, if it has one. */
export function connectionIn(
  json: unknown,
  { id, name }: Pick<EngineNetwork, "id" | "name">,
): Pick<Connection, "aliases" | "links" | "addresses"> | undefined {
  const held = Connected.parse(json).NetworkSettings.Networks[name];
  // None yet before the first start; another one's with engines that let two have one name.
  if (held === undefined || !["", id].includes(held.NetworkID)) return undefined;
  return { aliases: held.Aliases, links: held.Links, addresses: held.IPAMConfig ?? {} };
}

export const ContainerJson = z
  .object({
    Id: z.string(),
    Name: z.string(),
    Config: z.object({
      Hostname: z.string().default(""),
      Healthcheck: z.object({ Test: Texts }).nullish(),
      StopSignal: z.string().default(""),
      ExposedPorts: z.record(z.string(), z.unknown()).nullish(),
      Labels: Strings,
    }),
    HostConfig: z
      .object({ Dns: Texts, PortBindings: z.record(z.string(), z.unknown()).nullish() })
      .nullish(),
    State: z.object({
      Running: z.boolean(),
      Paused: z.boolean(),
      Restarting: z.boolean(),
      StartedAt: z.string(),
      Health: z.object({ Status: z.string() }).nullish(),
    }),
    ...Connected.shape,
  })
  .transform(({ Id, Name, Config, HostConfig, State, NetworkSettings }): ContainerDetails => {
    const state: RunState =
      !State.Running || State.Restarting ? "down" : State.Paused ? "paused" : "up";
    return {
      id: Id,
      name: Name.replace(/^\//, ""),
      hostname: Config.Hostname,
      // moby daemon/health.go, getProbe.
      checked: ["CMD", "CMD-SHELL"].includes(Config.Healthcheck?.Test[0] ?? ""),
      stopSignal: signalNumber(Config.StopSignal),
      resolvers: (HostConfig?.Dns ?? []).length > 0,
      published: Object.keys(HostConfig?.PortBindings ?? {}).toSorted(),
      ports: portsIn(Config.ExposedPorts ?? {}, HostConfig?.PortBindings ?? {}),
      labels: {
        vip: Config.Labels["overlay-ts.vip"],
        sticky: Config.Labels["overlay-ts.vip.sticky"],
        service: Config.Labels["com.docker.compose.service"],
      },
      state,
      health: HEALTHS.find((health) => health === State.Health?.Status),
      startedAtMs: Date.parse(State.StartedAt),
      sandbox: NetworkSettings.SandboxKey || undefined,
      connections: Object.entries(NetworkSettings.Networks).map(
        ([name, { NetworkID, EndpointID, IPAddress, Aliases, Links }]) => ({
          name,
          id: DockerNetworkId.safeParse(NetworkID).data,
          endpoint: EndpointID,
          shown: IPAddress || undefined,
          aliases: Aliases,
          links: Links,
        }),
      ),
    };
  });

const Event = z.object({
  Type: z.string(),
  Action: z.string(),
  Actor: z.object({ ID: z.string(), Attributes: Strings }),
  timeNano: z.number(),
});

/** One line of the stream; undefined: of something that nobody asked for. */
export function readEvent(line: string): EngineEvent | undefined {
  const { Type, Action, Actor, timeNano } = Event.parse(JSON.parse(line));
  const { ID, Attributes } = Actor;
  if (Type === "container")
    return {
      kind: "container",
      action: Action,
      container: ID,
      attributes: Attributes,
      atMs: timeNano / 1e6,
    };
  if (Type === "network")
    return { kind: "network", action: Action, network: ID, container: Attributes["container"] };
  return undefined;
}

export const InfoJson = z
  .object({
    ServerVersion: z.string().default(""),
    OperatingSystem: z.string().default(""),
    SecurityOptions: Texts,
    DockerRootDir: z.string().default(""),
    DefaultAddressPools: z.array(z.object({ Base: z.string(), Size: z.number() })).nullish(),
  })
  .transform((info): EngineInfo => ({
    version: info.ServerVersion,
    operatingSystem: info.OperatingSystem,
    securityOptions: info.SecurityOptions,
    dataRoot: info.DockerRootDir,
    defaultPools: info.DefaultAddressPools?.flatMap(poolIn) ?? BUILT_IN_POOLS,
  }));

function poolIn({ Base, Size }: { Base: string; Size: number }): DefaultPool[] {
  const base = Cidr.safeParse(Base);
  return base.success ? [{ base: base.data, prefixLength: Size }] : [];
}

/** Each once, by number: as many as a document takes. */
function portsIn(...by: readonly Readonly<Record<string, unknown>>[]): string[] {
  const all = new Set(by.flatMap((ports) => Object.keys(ports)));
  return [...all]
    .filter((port) => /^\d{1,5}\/(tcp|udp)$/.test(port))
    .toSorted((a, b) => parseInt(a, 10) - parseInt(b, 10) || (a < b ? -1 : 1))
    .slice(0, BOUNDS.endpointPorts);
}

/** `Up 5 seconds (healthy)`, `Up 2 minutes (health: starting)` (moby container/state.go, String). */
function healthIn(status: string): Health | undefined {
  const text = /^Up .*\((?:health: )?(\w+)\)$/.exec(status)?.[1];
  return HEALTHS.find((health) => health === text);
}
