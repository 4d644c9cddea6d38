import { describe, expect, test } from "vitest";
import { hostsPerhapsNeeding } from "../../../agent/core/hosts.ts";
import { NetworkId } from "../../../shared/ids.ts";
import { app, clusterState, nodeId } from "../../support/cluster.ts";

describe("behind a cut a network may be needed", () => {
  const state = clusterState(3);
  const lost = new Set([nodeId(2), nodeId(9)]);

  test("where addresses of it are to be given without asking anybody, each host named once", () => {
    const [block] = state.blocks.filter(({ node }) => node === nodeId(2));
    const blocks = [...state.blocks, ...(block === undefined ? [] : [block])];
    expect(hostsPerhapsNeeding({ blocks }, lost, app.id)).toEqual([nodeId(2)]);
  });

  test("and not where all hosts are reached, on other networks, or without a state", () => {
    expect(hostsPerhapsNeeding(state, new Set(), app.id)).toEqual([]);
    expect(hostsPerhapsNeeding(state, lost, NetworkId.parse("f".repeat(32)))).toEqual([]);
    expect(hostsPerhapsNeeding(undefined, lost, app.id)).toEqual([]);
  });
});
