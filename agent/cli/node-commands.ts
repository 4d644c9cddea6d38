import { callAgent, callController, type Context } from "./context.ts";
import { print, table } from "./output.ts";
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

export async function nodeList(context: Context): Promise<void> {
  const nodes = await callAgent<NodeRow[]>(context, "GET", "/v1/nodes");
  print(context, nodes, () =>
    table(
      ["NAME", "ADDRESS", "MESH", "DATA PATH", "NETWORKS", ""],
      nodes.map((node) => [
        node.name,
        node.address,
        node.connected ? "yes" : node.dialled === false ? "-" : "NO",
        node.self ? "-" : node.dataPathMs === undefined ? "NO" : `${node.dataPathMs.toFixed(2)} ms`,
        String(node.networks),
        [node.self ? "this host" : "", node.controller ? "controller" : ""]
          .filter(Boolean)
          .join(", "),
      ]),
    ),
  );
}

export async function nodeRemove(context: Context, name: string): Promise<void> {
  const url = `/v1/nodes?name=${encodeURIComponent(name)}`;
  const removed = await onController(() => callController(context, "DELETE", url));
  print(context, removed, () => `${name} is out; the keys of its networks are being changed`);
}
