import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { Exposed } from "../networks/host-endpoint.ts";
import { callAgent, type Context } from "./context.ts";
import {
  type Columns,
  list,
  type ListOptions,
  type OfNetworkOptions,
  oneNetwork,
} from "./listing.ts";
import { print } from "./output.ts";

/** Networks and their endpoints, through the agent's socket. */

interface NetworkRow extends NetworkRecord {
  readonly hosts: never;
}
type NetworkInfo = Omit<NetworkRow, "hosts"> & {
  readonly hosts: readonly string[];
  readonly blocks: readonly { block: string; host: string }[];
};

const COLUMNS: Columns<NetworkInfo> = {
  NAME: (network) => network.name ?? `(${network.id.slice(0, 12)})`,
  SUBNET: ({ subnets }) => subnets.map(({ subnet }) => subnet).join(","),
  VNI: ({ vni }) => String(vni),
  MTU: ({ mtuBytes }) => String(mtuBytes),
  ENCRYPTION: ({ encryption }) => encryption,
  HOSTS: ({ hosts }) => hosts.join(",") || "-",
};

export async function networkList(context: Context, options: ListOptions): Promise<void> {
  const rows = await callAgent<NetworkInfo[]>(context, "GET", "/v1/networks");
  list(context, { rows, columns: COLUMNS, id: "NAME", json: (left) => left }, options);
}

export async function networkInspect(context: Context, name: string): Promise<void> {
  const url = `/v1/networks/inspect?name=${encodeURIComponent(name)}`;
  const found = await callAgent<unknown>(context, "GET", url);
  print({ json: true }, found, () => "");
}

export interface NetworkCreateOptions {
  readonly subnet?: string;
  readonly gateway?: string;
  readonly ipRange?: string;
  readonly auxAddress?: readonly string[];
  readonly internal?: boolean;
  readonly opt?: readonly string[];
  readonly label?: readonly string[];
}

export async function networkCreate(
  context: Context,
  name: string,
  options: NetworkCreateOptions,
): Promise<void> {
  const made = await callAgent<NetworkRecord>(context, "POST", "/v1/networks", {
    name,
    subnet: options.subnet,
    gateway: options.gateway,
    range: options.ipRange,
    reserved: options.auxAddress,
    internal: options.internal,
    options: pairs(options.opt),
    labels: pairs(options.label),
  });
  print(context, made, () => `${name}  ${made.subnets.map(({ subnet }) => subnet).join(",")}`);
}

export async function networkRemove(context: Context, name: string): Promise<void> {
  const url = `/v1/networks?name=${encodeURIComponent(name)}`;
  const removed = await callAgent(context, "DELETE", url);
  print(context, removed, () => `${name} is gone from the cluster`);
}

export async function networkExpose(context: Context, name: string): Promise<void> {
  const url = `/v1/networks/exposed?name=${encodeURIComponent(name)}`;
  const exposed = await callAgent<Exposed>(context, "POST", url);
  print(context, exposed, () => `${exposed.ips.join(" ")} on ${exposed.link}`);
}

export async function networkHide(context: Context, name: string): Promise<void> {
  const url = `/v1/networks/exposed?name=${encodeURIComponent(name)}`;
  const hidden = await callAgent(context, "DELETE", url);
  print(context, hidden, () => `this host has no address in ${name} any more`);
}

interface EndpointRow {
  readonly network: string;
  readonly host: string;
  readonly id: string;
  readonly ips: readonly string[];
  readonly mac: string;
  readonly role: "container" | "host";
  /** Its own first; a container of a host of before may have none. */
  readonly names?: readonly string[];
}

const ENDPOINT_COLUMNS: Columns<EndpointRow> = {
  NETWORK: ({ network }) => network,
  HOST: ({ host }) => host,
  CONTAINER: ({ role, names = [] }) => (role === "host" ? "(the host)" : (names[0] ?? "-")),
  ADDRESS: ({ ips }) => ips.join(","),
  MAC: ({ mac }) => mac,
  ENDPOINT: ({ id }) => id.slice(0, 12),
};

export async function endpointList(
  context: Context,
  given: string | undefined,
  options: OfNetworkOptions,
): Promise<void> {
  const network = oneNetwork(given, options.network);
  const query = network === undefined ? "" : `?network=${encodeURIComponent(network)}`;
  const rows = await callAgent<EndpointRow[]>(context, "GET", `/v1/endpoints${query}`);
  list(context, { rows, columns: ENDPOINT_COLUMNS, id: "ENDPOINT", json: (left) => left }, options);
}

function pairs(list: readonly string[] | undefined): Record<string, string> {
  const named = new Map<string, string>();
  for (const text of list ?? []) {
    const at = text.indexOf("=");
    const [name, value] = at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
    if (name === "" || named.has(name))
      throw new OverlayError({
        code: "INVALID",
        message: name === "" ? `no name before = in ${text}` : `${name} is given twice`,
        next: "give each option and label once, as name=value",
      });
    named.set(name, value);
  }
  return Object.fromEntries(named);
}
