import { beforeEach, describe } from "vitest";
import { FakeUnderlay, FakeWireguard } from "../fakes/fake-wireguard.ts";
import { vtepOf } from "../support/cluster.ts";
import { insideOf, wireguardContract } from "./wireguard-contract.ts";

describe("WireGuard in memory", () => {
  const wallMs = (): number => 1_000_000;
  let underlay: FakeUnderlay;
  let tunnels: Map<number, FakeWireguard>;
  const open = (k: number): void => {
    tunnels.set(k, new FakeWireguard(underlay, vtepOf(k), wallMs));
  };
  beforeEach(() => {
    underlay = new FakeUnderlay();
    tunnels = new Map();
    for (const k of [1, 2, 3]) open(k);
  });
  wireguardContract(() => ({
    tunnel: (k) => tunnels.get(k)!,
    lose: (k) => tunnels.get(k)!.loseDevice(),
    restart: (k) => Promise.resolve(open(k)),
    reaches: (from, to) =>
      Promise.resolve(
        underlay.send(vtepOf(from), insideOf(to), wallMs()) &&
          underlay.send(vtepOf(to), insideOf(from), wallMs()),
      ),
  }));
});
