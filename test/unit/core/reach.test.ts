import { describe, expect, test } from "vitest";
import {
  type Found,
  type FoundThrough,
  lostHosts,
  lostThrough,
  deadThrough,
} from "../../../agent/core/liveness/reach.ts";
import { nodeId } from "../../support/cluster.ts";

const host = nodeId(2);
type Word = "answers" | "silent once" | "lost" | "not asked" | "no key";

function found(word: Word): Found {
  return {
    lost: new Set(word === "lost" ? [host] : []),
    answering: new Set(word === "answers" ? [host] : []),
    keyless: new Set(word === "no key" ? [host] : []),
  };
}

const NOT_ASKED = found("not asked");
const through = (none: Word, wireguard: Word): FoundThrough => ({
  none: found(none),
  wireguard: found(wireguard),
  ipsec: NOT_ASKED,
});

describe("whose containers are out of answers, and on which networks", () => {
  test.each<[Word, Word, { clear: boolean; tunnel: boolean; host: boolean }]>([
    ["answers", "answers", { clear: false, tunnel: false, host: false }],
    // A tunnel that is dead takes nothing from other networks.
    ["answers", "lost", { clear: false, tunnel: true, host: false }],
    ["answers", "silent once", { clear: false, tunnel: false, host: false }],
    // No network of the class is shared, or the host is of 0.1.0.
    ["answers", "not asked", { clear: false, tunnel: false, host: false }],
    ["lost", "not asked", { clear: true, tunnel: true, host: true }],
    // A dead host is out as soon as in clear: the tunnel is not waited for longer than its next answer.
    ["lost", "silent once", { clear: true, tunnel: true, host: true }],
    ["lost", "lost", { clear: true, tunnel: true, host: true }],
    // What is closed is VXLAN's port in clear.
    ["lost", "answers", { clear: true, tunnel: false, host: false }],
    // It is asked for when the two first share a network; until it is there nothing gets there.
    ["answers", "no key", { clear: false, tunnel: true, host: false }],
    ["lost", "no key", { clear: true, tunnel: true, host: true }],
    // Behind NAT.
    ["not asked", "lost", { clear: false, tunnel: true, host: false }],
  ])("in clear it %s, through the tunnel it %s", (none, tunnel, out) => {
    const all = through(none, tunnel);
    expect({
      clear: lostThrough(all, "none").has(host),
      tunnel: lostThrough(all, "wireguard").has(host),
      host: lostHosts(all).has(host),
    }).toEqual(out);
  });

  test("one tunnel says nothing of the other", () => {
    const all = { ...through("answers", "lost"), ipsec: found("answers") };
    expect(lostThrough(all, "ipsec")).toEqual(new Set());
  });
});

describe("what is said of a tunnel", () => {
  const said = (all: FoundThrough) => deadThrough(all, "wireguard", () => "h2", 51820);

  test("who is there, and silent through it, by name and with what to do", () => {
    expect(said(through("answers", "lost"))).toMatchObject({
      code: "UNREACHABLE",
      message: expect.stringContaining("no answer through WireGuard from h2"),
      next: expect.stringContaining("51820/udp"),
    });
  });

  test("who is there, and has no key", () => {
    expect(said(through("answers", "no key"))?.message).toBe(
      "no key of WireGuard with h2: containers there are in no answer on networks of that kind",
    );
    expect(said(through("lost", "no key"))).toBeUndefined();
  });

  test("nothing of a host that is dead, and of one that answers", () => {
    expect(said(through("lost", "lost"))).toBeUndefined();
    expect(said(through("answers", "answers"))).toBeUndefined();
  });
});
