import { describe } from "vitest";
import { MemoryMesh } from "../../agent/gossip/memory-mesh.ts";
import type { NodeId } from "../../shared/ids.ts";
import { node, nodeId } from "../support/cluster.ts";
import { meshContract, type MeshHost, recordingHandlers } from "./mesh-contract.ts";

describe("memory", () =>
  meshContract(async (count) => {
    const net = new Map<NodeId, MemoryMesh>();
    const hosts: MeshHost[] = [];
    for (let k = 1; k <= count; k++) {
      const own = { heard: [], events: [] };
      const handlers = recordingHandlers(own, (id) =>
        String(Array.from({ length: 9 }, (_, i) => nodeId(i + 1)).indexOf(id) + 1),
      );
      const mesh = new MemoryMesh(nodeId(k), net);
      const peer = { node: nodeId(k), address: node(k).address, port: 7947 };
      hosts.push({ ...own, mesh, peer, handlers, node: nodeId(k) });
      await mesh.start(handlers);
    }
    return hosts;
  }));
