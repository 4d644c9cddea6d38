import { describe, expect, test } from "vitest";
import { problemsOf, type ViewModules } from "../../../agent/events/view-sources.ts";
import type { Failure } from "../../../shared/errors.ts";
import { app } from "../../support/cluster.ts";

/** Each part that says why it does not succeed, what its line in `status` is called, and how it says so. */
const SOURCES: readonly (readonly [
  what: string,
  failing: (failure: Failure) => Partial<Record<keyof ViewModules, unknown>>,
])[] = [
  ["membership", (failure) => ({ revocationCheck: { failure: () => failure } })],
  ["identity", (failure) => ({ cloneDetection: { failure: () => failure } })],
  ["state", (failure) => ({ replication: { forkFailure: () => failure } })],
  ["disk", (failure) => ({ disk: { status: () => ({ failure }) } })],
  ["guards", (failure) => ({ guardReconciler: { failure: () => failure } })],
  [
    "guards",
    (failure) => ({
      encryption: {
        failures: () => [],
        wireguard: { guards: () => ({ guardReconciler: { failure: () => failure } }) },
      },
    }),
  ],
  ["way out", (failure) => ({ wayOutReconciler: { failure: () => failure } })],
  ["way out", (failure) => ({ egressReconciler: { failure: () => failure } })],
  ["way out", (failure) => ({ waysOut: { failure: () => failure } })],
  [
    "wireguard",
    (failure) => ({
      encryption: {
        failures: () => [{ encryption: "wireguard", failure }],
        wireguard: { guards: () => undefined },
      },
    }),
  ],
  [
    "ipsec",
    (failure) => ({
      dataPaths: { failure: () => undefined, failures: () => [{ encryption: "ipsec", failure }] },
    }),
  ],
  ["data path", (failure) => ({ dataPaths: { failure: () => failure, failures: () => [] } })],
  ["underlay", (failure) => ({ underlay: { failure: () => failure, untold: () => undefined } })],
  ["controller", (failure) => ({ underlay: { failure: () => undefined, untold: () => failure } })],
  ["docker", (failure) => ({ networkSync: { failure: () => failure, unheeded: () => [] } })],
  [
    "docker",
    (failure) => ({
      networkSync: undefined,
      containerWatcher: {
        failure: () => failure,
        status: () => ({ leftOutNames: [] }),
        unpublished: () => [],
      },
    }),
  ],
  [
    "docker",
    (failure) => ({
      adapters: { mesh: {}, names: {}, balancing: {}, pluginSocket: { failure: () => failure } },
    }),
  ],
  ["controller link", (failure) => ({ controller: { failure: () => failure } })],
  ["name server", (failure) => ({ nameServerFeed: { failure: () => failure } })],
  [
    "name server",
    (failure) => ({ adapters: { mesh: {}, balancing: {}, names: { failure: () => failure } } }),
  ],
  ["virtual addresses", (failure) => ({ vipRequests: { failure: () => failure } })],
  [
    "virtual addresses",
    (failure) => ({ adapters: { mesh: {}, names: {}, balancing: { failure: () => failure } } }),
  ],
  [
    "mesh",
    (failure) => ({ adapters: { names: {}, balancing: {}, mesh: { failure: () => failure } } }),
  ],
  ["adoption", (failure) => ({ endpointRecovery: { failure: () => failure } })],
  ["interfaces", (failure) => ({ lostInterfaces: { failure: () => failure } })],
  ["keys", (failure) => ({ localNetworks: { failures: () => [{ network: app.id, failure }] } })],
  ["kernel", (failure) => ({ reconciler: { failures: () => [{ network: app.id, failure }] } })],
];

const well = { failure: () => undefined };
const none = { failures: () => [] };
const WELL = {
  revocationCheck: well,
  cloneDetection: well,
  replication: { forkFailure: () => undefined },
  disk: { status: () => ({ failure: undefined }) },
  guardReconciler: well,
  wayOutReconciler: well,
  egressReconciler: well,
  waysOut: well,
  encryption: { ...none, wireguard: { guards: () => undefined } },
  dataPaths: { ...well, ...none },
  underlay: { ...well, untold: () => undefined },
  networkSync: { ...well, unheeded: () => [] },
  containerWatcher: { ...well, status: () => ({ leftOutNames: [] }), unpublished: () => [] },
  controller: well,
  nameServerFeed: well,
  vipRequests: well,
  adapters: { mesh: {}, names: {}, balancing: {} },
  endpointRecovery: well,
  lostInterfaces: well,
  localNetworks: none,
  reconciler: none,
};

const problems = (modules: object) => problemsOf(modules as unknown as ViewModules);

test("where all is well there is none", () => {
  expect(problems(WELL)).toEqual([]);
});

describe.each(SOURCES)("%s", (what, failing) => {
  test("is a line with what happened and what to do", () => {
    const failure = { code: "NETLINK", message: "it failed", next: "do this" } as const;
    expect(problems({ ...WELL, ...failing(failure) })).toMatchObject([
      { what, message: "it failed", next: "do this" },
    ]);
  });

  test("says where the cause is, when the part has no next step of its own", () => {
    const failure = { code: "NETLINK", message: "it failed" } as const;
    expect(problems({ ...WELL, ...failing(failure) })).toMatchObject([
      { what, next: expect.stringContaining("journalctl -u overlay-ts-agent") },
    ]);
  });
});

test("names that no other host is told, ports that nobody reaches, subnets that Docker ignores", () => {
  const modules = {
    ...WELL,
    networkSync: {
      ...WELL.networkSync,
      unheeded: () => [{ network: app.id, name: "app", subnets: ["fd00::/64"] }],
    },
    containerWatcher: {
      ...WELL.containerWatcher,
      status: () => ({
        leftOutNames: [
          { container: "c1", network: "app", names: ["a b"], count: 1, why: "no-name" },
        ],
      }),
      unpublished: () => [{ name: "web", published: ["80/tcp"] }],
    },
  };
  expect(problems(modules)).toMatchObject([
    {
      what: "names",
      message: expect.stringContaining("a b"),
      next: expect.stringContaining("aliases"),
    },
    { what: "published ports", next: expect.stringContaining("docker network connect") },
    { what: "ipv6", next: expect.stringContaining("--ipv6") },
  ]);
});
