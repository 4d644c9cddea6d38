import { expect, test } from "vitest";
import { SandboxWays } from "../../../agent/docker/sandbox-ways.ts";
import { WaysOut } from "../../../agent/docker/ways-out.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import type { Failure } from "../../../shared/errors.ts";

test.each([
  ["it is switched off", { switchedOff: true, blocked: false }],
  ["something on the host drops it", { switchedOff: false, blocked: true }],
])("containers that leave by their network are counted when %s", (_, { switchedOff, blocked }) => {
  const why: Failure = { code: "UNSUPPORTED", message: "so it is" };
  const disk = new Disk(new MemoryStore());
  const sandboxWays = new SandboxWays({ disk, joined: [], isThere: () => true });
  const waysOut = new WaysOut({
    egress: { blocked: () => (blocked ? why : undefined) },
    transitSlots: { of: () => undefined, switchedOff: () => (switchedOff ? why : undefined) },
    sandboxWays,
  });
  sandboxWays.decide("/var/run/docker/netns/ba9876543210", "gwbridge");
  expect(waysOut.failure()).toBeUndefined();
  sandboxWays.decide("/var/run/docker/netns/0123456789ab", "transit");
  expect(waysOut.failure()).toMatchObject({
    message: "1 container does not reach what is outside of this host: so it is",
  });
});
