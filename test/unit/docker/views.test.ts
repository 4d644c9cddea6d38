import { describe, expect, test } from "vitest";
import type { EngineNetwork } from "../../../agent/docker/engine/port.ts";
import { planViews, shownNetwork, unheededSubnets, viewOf } from "../../../agent/docker/views.ts";
import { DockerNetworkId, NetworkId } from "../../../shared/ids.ts";
import { Cidr } from "../../../shared/ip.ts";
import { app } from "../../support/cluster.ts";

const docker = (digit: string): DockerNetworkId => DockerNetworkId.parse(digit.repeat(64));
const other = { ...app, id: NetworkId.parse("0b".repeat(16)), name: "web" };

function view(name: string, id: DockerNetworkId, driver = "overlay-ts"): EngineNetwork {
  const rest = { internal: false, attachable: true, labels: {}, options: {}, subnets: [] };
  return { id, name, driver, ...rest, dockerRanges: [] };
}

const always = (): boolean => true;

describe("an engine's views", () => {
  test("of a network that is not shown: made with everything of the original", () => {
    const driverOptions = { mtu: "1400", "dns.unhealthy": "include" };
    const network = { ...app, labels: { a: "b" }, driverOptions, internal: true };
    const { create } = planViews([network], [], new Map(), always);
    expect(create).toEqual([
      {
        network: app.id,
        request: {
          name: "app",
          driver: "overlay-ts",
          internal: true,
          attachable: true,
          ipv6: false,
          labels: { a: "b" },
          options: { ...driverOptions, "com.docker.network.driver.overlay.vxlanid_list": "256" },
          ipam: {
            driver: "overlay-ts",
            options: {},
            config: [{ subnet: "10.192.0.0/16", gateway: "10.192.0.1" }],
          },
        },
      },
    ]);
  });

  test("shown, under whatever id: nothing to do", () => {
    const bound = new Map([[docker("a"), app.id]]);
    const plan = planViews([app], [view("app", docker("a"))], bound, always);
    expect(plan).toEqual({ create: [], remove: [], tell: [], conflicts: [], unheeded: [] });
  });

  test("an IPv6 subnet that was given without `--ipv6` is named; of a dual network, and of others', none", () => {
    const bound = new Map([[docker("a"), app.id]]);
    const subnets = ["10.192.0.0/16", "fd00:1::/64"];
    const shown = { ...view("app", docker("a")), subnets };
    const named = (network = app, ...views: EngineNetwork[]) =>
      planViews([network], views, bound, always).unheeded;
    expect(named(app, shown)).toEqual([{ network: app.id, name: "app", subnets: ["fd00:1::/64"] }]);
    const six = { ...app.subnets[0]!, subnet: Cidr.parse("fd00:1::/64") };
    expect(named({ ...app, subnets: [...app.subnets, six] }, shown)).toEqual([]);
    expect(named(app, { ...shown, subnets: ["10.192.0.0/16"] })).toEqual([]);
    expect(named(app, { ...shown, id: docker("b") }, { ...shown, driver: "bridge" })).toEqual([]);
    // Made again with another IPv4 subnet the view has the one that its user gave, and is named still.
    const again = viewOf(app, "app", unheededSubnets(app, shown)).ipam.config;
    expect(again.map(({ subnet }) => subnet)).toEqual(subnets);
  });

  test("of a network that ended: removed; of one that is not ours: left alone", () => {
    const bound = new Map([[docker("a"), app.id]]);
    const engine = [
      view("app", docker("a")),
      view("theirs", docker("b")),
      view("x", docker("c"), "bridge"),
    ];
    expect(planViews([], engine, bound, always).remove).toEqual([
      { docker: docker("a"), name: "app" },
    ]);
  });

  test("a name that is taken is a conflict, and nothing is made", () => {
    const { create, conflicts } = planViews(
      [app],
      [view("app", docker("a"), "bridge")],
      new Map(),
      always,
    );
    expect(create).toEqual([]);
    expect(conflicts).toEqual([{ network: app.id, name: "app", driver: "bridge" }]);
  });

  test("made here and not named yet: told, and not shown twice", () => {
    const { name: _, ...unnamed } = other;
    const bound = new Map([[docker("a"), other.id]]);
    const plan = planViews([unnamed], [view("web", docker("a"))], bound, always);
    expect(plan.tell).toMatchObject([{ network: other.id, view: { name: "web" } }]);
    expect(plan.create).toEqual([]);
  });

  test("only what this host may have", () => {
    const mayHost = (network: NetworkId): boolean => network === other.id;
    const names = planViews([app, other], [], new Map(), mayHost).create.map(
      ({ request }) => request.name,
    );
    expect(names).toEqual(["web"]);
  });

  test("which network it is, the engine knows after a lost database", () => {
    const { options, ipam } = viewOf(app, "app");
    const subnets = ipam.config.map((pool) => pool.subnet);
    const shown = { ...view("app", docker("a")), options, subnets };
    expect(shownNetwork(shown, [other, app])).toBe(app);
    // Left behind by a cluster that counted its VNIs from the same start.
    expect(shownNetwork({ ...shown, name: "web" }, [app])).toBeUndefined();
    expect(shownNetwork({ ...shown, subnets: ["10.1.0.0/24"] }, [app])).toBeUndefined();
    const made = { ...app, createdAs: docker("b") };
    expect(shownNetwork(view("app", docker("b")), [made])).toBe(made);
  });
});
