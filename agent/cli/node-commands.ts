import { callAgent, callController, type Context } from "./context.ts";
import { type Columns, list, type ListOptions } from "./listing.ts";
import { print } from "./output.ts";
import { onController } from "./on-controller.ts";

/** The hosts of the cluster: listed by the agent, removed by the controller. */

interface NodeRow {
  readonly name: string;
  readonly address: string;
  readonly self: boolean;
  readonly controller: boolean;
  readonly connected: boolean;
  /** Absent of an agent of before. */
  readonly dialled?: boolean;
  readonly dataPathMs?: number;
  readonly networks: number;
}

const COLUMNS: Columns<NodeRow> = {
  NAME: ({ name }) => name,
  ADDRESS: ({ address }) => address,
  MESH: ({ connected, dialled }) => (connected ? "yes" : dialled === false ? "-" : "NO"),
  "DATA PATH": ({ self, dataPathMs }) =>
    self ? "-" : dataPathMs === undefined ? "NO" : `${dataPathMs.toFixed(2)} ms`,
  NETWORKS: ({ networks }) => String(networks),
  ROLE: ({ self, controller }) =>
    [self ? "this host" : "", controller ? "controller" : ""].filter(Boolean).join(", "),
};

export async function nodeList(context: Context, options: ListOptions): Promise<void> {
  const rows = await callAgent<NodeRow[]>(context, "GET", "/v1/nodes");
  list(context, { rows, columns: COLUMNS, id: "NAME", json: (left) => left }, options);
}

export async function nodeRemove(context: Context, name: string): Promise<void> {
  const url = `/v1/nodes?name=${encodeURIComponent(name)}`;
  const removed = await onController(() => callController(context, "DELETE", url));
  print(context, removed, () => `${name} is out; the keys of its networks are being changed`);
}
