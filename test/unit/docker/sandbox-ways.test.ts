import { expect, test } from "vitest";
import { SandboxWays } from "../../../agent/docker/sandbox-ways.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";

const store = (): MemoryStore => new MemoryStore();
const [one, other] = ["/var/run/docker/netns/0123456789ab", "/var/run/docker/netns/ba9876543210"];

function ways(
  held: MemoryStore,
  joined: { path: string }[] = [],
  isThere: (path: string) => boolean = () => true,
): SandboxWays {
  return new SandboxWays({ disk: new Disk(held), joined, isThere });
}

test("the first way out is a container's for its life, over the agent's restarts", () => {
  const held = store();
  const before = ways(held);
  expect(before.decide(one, "transit")).toBe("transit");
  expect(before.decide(other, "gwbridge")).toBe("gwbridge");
  for (const now of [before, ways(held)]) {
    expect(now.decide(one, "gwbridge")).toBe("transit");
    expect(now.decide(other, "transit")).toBe("gwbridge");
    expect(now.byTransit()).toBe(1);
  }
});

test("on internal networks alone nothing is decided: the first with a way out decides", () => {
  const held = store();
  expect(ways(held).decide(one, "none")).toBe("none");
  expect(ways(held).decide(one, "transit")).toBe("transit");
  expect(ways(held).decide(one, "none")).toBe("transit");
});

test("containers of an agent before this one have docker_gwbridge", () => {
  const held = store();
  expect(ways(held, [{ path: one }]).decide(one, "transit")).toBe("gwbridge");
  // Also when Docker names the directory otherwise.
  expect(ways(held).of(one.replace("/var", ""))).toBe("gwbridge");
});

test("a namespace that is gone is forgotten at the second look: Docker 20.10 makes it after its first Join", () => {
  const held = store();
  const there = new Set<string>();
  const all = ways(held, [], (path) => there.has(path));
  all.decide(one, "transit");
  all.decide(other, "transit");
  all.forgetGone();
  there.add(one);
  all.forgetGone();
  expect([all.of(one), all.of(other)]).toEqual(["transit", undefined]);
  expect(ways(held).byTransit()).toBe(1);
});
