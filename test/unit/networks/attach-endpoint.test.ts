import { beforeEach, describe, expect, test } from "vitest";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { AttachEndpoint, type WantedEndpoint } from "../../../agent/networks/attach-endpoint.ts";
import { HostEndpoints } from "../../../agent/networks/host-endpoint.ts";
import { claimedAddresses, type Endpoint } from "../../../shared/documents.ts";
import { OverlayError } from "../../../shared/errors.ts";
import type { NetworkId } from "../../../shared/ids.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { app, clusterState, endpoint } from "../../support/cluster.ts";

const held = endpoint(1, 5);
const wanted: WantedEndpoint = { id: held.id, ips: claimedAddresses(held) };
const refused = new OverlayError({ code: "UNREACHABLE", message: "not now" });
const { signal } = new AbortController();

/** Steps in the order of their calls; the one called `failing` is refused. */
let steps: string[];
let failing: string | undefined;
let own: Endpoint[];
let attachEndpoint: AttachEndpoint;
let hostEndpoints: HostEndpoints;

async function step(name: string): Promise<void> {
  steps.push(name);
  if (name === failing) throw refused;
}

beforeEach(() => {
  const tables = new Tables();
  tables.mergeState(clusterState(1));
  [steps, failing, own] = [[], undefined, []];
  const localNetworks = {
    record: () => app,
    requireFit: () => {},
    endpoints: () => own,
    stayOn: async <T>(_: NetworkId, work: () => Promise<T>): Promise<T> => {
      try {
        await step("enter");
        return await work();
      } finally {
        steps.push("may leave");
      }
    },
    put: (_: NetworkId, put: Endpoint) => {
      steps.push("put");
      own.push(put);
    },
    remove: () => {
      steps.push("remove");
      own = [];
    },
  };
  const reconciler = { settle: () => step("kernel") };
  attachEndpoint = new AttachEndpoint({
    localNetworks,
    encryption: { require: () => step("encryption"), settled: () => step("keys") },
    replication: { tables, completed: () => step("peers") },
    reconciler,
    guardReconciler: { settled: () => step("guards") },
  });
  hostEndpoints = new HostEndpoints({
    localNetworks,
    attachEndpoint,
    reconciler,
    ipam: {
      allot: async () => [...wanted.ips],
      giveBack: () => void steps.push("give back"),
    },
    kernel: { containerLink: (id) => id },
    hasher: sha256,
    hostSubnets: () => [],
  });
});

test("the host is on the network, with its encryption, before the endpoint is said", async () => {
  expect(await attachEndpoint.attach(() => app.id, wanted, signal)).toEqual(held);
  expect(steps).toEqual(["enter", "encryption", "put", "may leave"]);
});

test("asked for again it is there, whatever other hosts say of its address meanwhile", async () => {
  own = [held];
  expect(attachEndpoint.propose(app, wanted)).toEqual(held);
  await attachEndpoint.attach(() => app.id, wanted, signal);
  expect(steps).not.toContain("put");
});

test("an address of another endpoint here is refused", () => {
  own = [{ ...endpoint(1, 6), ipv4: held.ipv4! }];
  expect(() => attachEndpoint.propose(app, wanted)).toThrow(/is another container's/);
});

test.each(["enter", "encryption"])("refused at %s, the network is left again", async (at) => {
  failing = at;
  await expect(attachEndpoint.attach(() => app.id, wanted, signal)).rejects.toBe(refused);
  expect(steps.at(-1)).toBe("may leave");
  expect(own).toEqual([]);
});

test("a call that came too late puts nothing", async () => {
  const late = AbortSignal.abort(refused);
  await expect(attachEndpoint.attach(() => app.id, wanted, late)).rejects.toBe(refused);
  expect(own).toEqual([]);
});

test("a network that goes meanwhile gets nothing", async () => {
  let asked = 0;
  const network = (): NetworkId => {
    if (asked++ > 0) throw refused;
    return app.id;
  };
  await expect(attachEndpoint.attach(network, wanted, signal)).rejects.toBe(refused);
  expect(own).toEqual([]);
});

test("what its first packet needs, in order", async () => {
  await attachEndpoint.settle(app.id);
  expect(steps).toEqual(["peers", "keys", "kernel", "guards"]);
});

describe("the host's own", () => {
  test.each(["enter", "encryption", "kernel", "guards"])(
    "refused at %s, neither endpoint nor address stays",
    async (at) => {
      failing = at;
      await expect(hostEndpoints.expose(app.id)).rejects.toBe(refused);
      expect(steps.slice(-2)).toEqual(["remove", "give back"]);
      expect(own).toEqual([]);
    },
  );

  test("asked for again while it comes, it is the same: what is taken back again was never given", async () => {
    failing = "guards";
    const asked = [hostEndpoints.expose(app.id), hostEndpoints.expose(app.id)];
    const outcomes = await Promise.allSettled(asked);
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    failing = undefined;
    await hostEndpoints.expose(app.id);
    expect(steps.filter((name) => name === "put")).toHaveLength(2);
    expect(own).toHaveLength(1);
  });

  test("taken away while it comes, it comes first", async () => {
    const exposing = hostEndpoints.expose(app.id);
    await hostEndpoints.hide(app.id);
    await exposing;
    expect(own).toEqual([]);
    expect(steps.slice(-3)).toEqual(["remove", "give back", "kernel"]);
  });

  test("is in the document as the host's", async () => {
    const { ips } = await hostEndpoints.expose(app.id);
    expect(ips).toEqual(wanted.ips);
    expect(own).toMatchObject([{ role: "host", ipv4: held.ipv4 }]);
  });
});
