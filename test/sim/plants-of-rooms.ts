import type { Plant } from "./plant.ts";

const nameFeed = "agent/names/name-server-feed.ts";

/** In what the agent's rooms do around the core. */
export const AGENT_PLANTS: readonly Plant[] = [
  {
    name: "found-in-kernel-taken-away",
    what: "what a lost database does not know is taken from the kernel before it was looked what it is",
    edits: [
      {
        file: "agent/networks/desired-networks.ts",
        from: 'if (endpointRecovery.isWaiting(network)) return { kind: "keep" };',
        to: "",
      },
    ],
  },
  {
    name: "kernel-believed-after-a-loss",
    what: "what somebody else took from the kernel is believed to be there until the whole comparison",
    edits: [
      {
        file: "agent/kernel/reconciler.ts",
        from: "    entry.changesOutside++;\n    entry.held = undefined;\n",
        to: "",
      },
    ],
  },
  {
    name: "address-given-before-adoption",
    what: "an address is given before it is known which containers of the network run here",
    edits: [
      {
        file: "agent/networks/endpoint-recovery.ts",
        from: "if (!this.isWaiting(network)) return;\n    // What is wrong",
        to: "if (network) return;\n    // What is wrong",
      },
    ],
  },
  {
    name: "lost-hosts-not-told",
    what: "that a host is lost, or found again, changes no names until something else does",
    edits: [
      {
        file: "agent/names/parts.ts",
        from: "reach.changed.on(() => nameServerFeed.changed());",
        to: "",
      },
    ],
  },
  {
    name: "names-told-once",
    what: "after the first change of names no other is told",
    edits: [{ file: nameFeed, from: "    this.#stopTelling = undefined;\n", to: "" }],
  },
  {
    name: "vip-of-two-names",
    what: "a virtual address that a name has is given to another one",
    edits: [
      {
        file: "controller/core/vips.ts",
        from: "    ...vips.flatMap(({ ips }) => ips.map(ipToNumber)),\n",
        to: "",
      },
    ],
  },
  {
    name: "removed-member-kept",
    what: "an endpoint that ended stays behind the virtual address of its name",
    edits: [
      {
        file: "agent/core/balancing/services.ts",
        from: "const there = present.get(id);",
        to: 'const there = present.get(id) ?? ({ endpoint: was?.members.get(id), state: "ready" } as never);',
      },
    ],
  },
  {
    name: "gone-never-forgotten",
    what: "the name of a container that went is the network's for good",
    edits: [
      {
        file: nameFeed,
        from: "told.stopForgetting = timers.after(waitMs, () => this.dirty(network));",
        to: "",
      },
    ],
  },
  {
    name: "holders-told-anew",
    what: "what the name server was told is not kept, so that what went is not taken back",
    edits: [
      {
        file: "agent/core/names/told-holders.ts",
        from: "if (told !== undefined) remove.push(endpoint);",
        to: "",
      },
    ],
  },
  {
    name: "served-after-a-boot",
    what: "containers that ended with the machine are served on",
    edits: [
      {
        file: nameFeed,
        from: "for (const { endpoint } of gone) await this.leave(endpoint);",
        to: "",
      },
    ],
  },
  {
    name: "lost-join-not-found",
    what: "a container whose Join was lost with the disk is not served",
    edits: [
      {
        file: nameFeed,
        from: "inBackground(this.join(joined), log,",
        to: "inBackground(Promise.resolve(), log,",
      },
    ],
  },
  {
    name: "unlisted-endpoint-kept",
    what: "an endpoint whose container ended while no agent ran is said for good",
    edits: [
      {
        file: "agent/docker/orphan-sweeper.ts",
        from: "await forget(this.#modules, network, endpoint);",
        to: "",
      },
    ],
  },
  {
    name: "mended-without-a-word",
    what: "nobody hears of what somebody else changes in the kernel",
    edits: [
      { file: "agent/start-order.ts", from: "    reconciler.changedOutside(network);\n", to: "" },
    ],
  },
];
