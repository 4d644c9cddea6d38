import { describe } from "vitest";
import { CountedMesh } from "../../agent/replication/counted-mesh.ts";
import type { Mesh } from "../../agent/replication/gossip/port.ts";
import { MemoryMesh } from "../fakes/memory-mesh.ts";
import type { NodeId } from "../../shared/ids.ts";
import { node, nodeId } from "../support/cluster.ts";
import { meshContract, type MeshHost, recordingHandlers } from "./mesh-contract.ts";

// What counts must be no other mesh.
describe.each<[string, (mesh: Mesh) => Mesh]>([
  ["memory", (mesh) => mesh],
  ["memory, counted", (mesh) => new CountedMesh(mesh)],
])("%s", (_, counted) =>
  meshContract(async (count) => {
    const net = new Map<NodeId, MemoryMesh>();
    const hosts: MeshHost[] = [];
    for (let k = 1; k <= count; k++) {
      const own = { heard: [], events: [], tried: [] };
      const handlers = recordingHandlers(own, (id) =>
        String(Array.from({ length: 9 }, (_, i) => nodeId(i + 1)).indexOf(id) + 1),
      );
      const mesh = counted(new MemoryMesh(nodeId(k), net));
      const peer = { node: nodeId(k), address: node(k).address, port: 7947 };
      hosts.push({ ...own, mesh, peer, handlers, node: nodeId(k) });
      await mesh.start(handlers);
    }
    return hosts;
  }),
);
