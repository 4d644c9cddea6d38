import { describe, expect, test } from "vitest";
import type { DockerNetworkId } from "../../../shared/ids.ts";
import { signalNumber } from "../../../agent/docker/engine/signals.ts";
import { ContainerJson, ContainersJson, readEvent } from "../../../agent/docker/engine/json.ts";
import { namesAsSaid, namesOf as named } from "../../../agent/core/names/names.ts";
import { ContainerNames } from "../../../agent/core/names/container-names.ts";
import { dockerNames, linksOf } from "../../../agent/core/names/docker-names.ts";
import { Endpoint } from "../../../shared/documents.ts";
import { endpoint } from "../../support/cluster.ts";

const ID = "0123456789abcdef".repeat(4);

test.each([
  ["", 15],
  ["SIGTERM", 15],
  ["term", 15],
  ["2", 2],
  ["SIGQUIT", 3],
  ["SIGRTMIN", 34],
  ["SIGRTMIN+3", 37],
  ["RTMAX-14", 50],
  ["SIGNOSUCH", 15],
])("stop signal %j is %i", (text, number) => {
  expect(signalNumber(text)).toBe(number);
});

describe("names", () => {
  test("are canonical and said once, the container's own first", () => {
    const container = { id: ID, name: "Web", hostname: "web.Example." };
    expect(dockerNames(container, ["web", ID.slice(0, 12), "WWW", "www."])).toEqual({
      names: ["web", "0123456789ab", "web.example", "www"],
      noNames: [],
      tooMany: [],
    });
  });

  test("are as many as a document takes, and as long; the rest is told", () => {
    const c1 = { id: ID, name: "c1", hostname: "" };
    const sixty = Array.from({ length: 60 }, (_, k) => `a${k}`);
    expect(dockerNames(c1, sixty)).toMatchObject({ noNames: [], tooMany: [] });
    expect(dockerNames(c1, sixty).names).toEqual(["c1", ID.slice(0, 12), ...sixty]);
    const aliases = Array.from({ length: 200 }, (_, k) => `a${k}`);
    const { names, tooMany } = dockerNames(c1, [...aliases, "no name"]);
    expect([names.length, tooMany.length]).toEqual([128, 74]);
    expect(tooMany[0]).toBe("a126");
    const long = Array.from(
      { length: 60 },
      (_, k) => `a${k}.${["b", "c", "d"].map((one) => one.repeat(60)).join(".")}`,
    );
    const fitting = dockerNames(c1, long).names;
    expect(fitting.join("").length).toBeLessThanOrEqual(32 * 253);
    expect(fitting.length).toBeGreaterThan(32);
    expect(Endpoint.safeParse({ ...endpoint(1, 1), ...namesAsSaid(fitting) }).success).toBe(true);
    expect(dockerNames(c1, ["No Name"]).noNames).toEqual(["no name"]);
  });

  test("hosts of 0.1.0 find the first 32 in the document; this version all of them", () => {
    const names = Array.from({ length: 40 }, (_, k) => `a${k}`);
    const said = namesAsSaid(names);
    expect(said.names).toEqual(names.slice(0, 32));
    expect(named(Endpoint.parse({ ...endpoint(1, 1), ...said }))).toEqual(names);
    expect(namesAsSaid(names.slice(0, 32))).not.toHaveProperty("moreNames");
  });

  test("links are by alias, the last of one alias counts, a whole id is as good as the short one", () => {
    expect(linksOf(["lv:DB", "web", `${ID}:x`, "other:db."])).toEqual({
      db: "other",
      web: "web",
      x: ID.slice(0, 12),
    });
  });
});

test("a container whose end was not told is asked for, and forgotten", () => {
  const none = (network: string): network is DockerNetworkId => network === "";
  const names = new ContainerNames(none, () => false);
  const happened = { kind: "container", attributes: {}, atMs: 0, container: ID } as const;
  const look = [{ kind: "container", container: ID }];
  expect(names.happened({ ...happened, action: "create" })).toEqual(look);
  expect(names.listed([], new Map())).toEqual(look);
  names.looked(ID, undefined);
  expect(names.listed([], new Map())).toEqual([]);
});

function detailsOf(Config: object, HostConfig: object) {
  return ContainerJson.parse({
    Id: ID,
    Name: "/c1",
    Config,
    HostConfig,
    NetworkSettings: { Networks: {} },
    State: { Running: true, Paused: false, Restarting: false, StartedAt: "2026-01-01T00:00:00Z" },
  });
}

describe("what engines answer", () => {
  test.each([
    ["running", "Up 5 seconds", "up", undefined],
    ["running", "Up 5 seconds (health: starting)", "up", "starting"],
    ["running", "Up 2 weeks (healthy)", "up", "healthy"],
    ["running", "Up Less than a second (unhealthy)", "up", "unhealthy"],
    ["paused", "Up 5 seconds (Paused)", "paused", undefined],
    ["restarting", "Restarting (1) 2 seconds ago", "down", undefined],
    ["created", "Created", "down", undefined],
    ["exited", "Exited (137) 4 hours ago", "down", undefined],
  ])("in a list: %s, %j", (State, Status, state, health) => {
    const networks = { app: { NetworkID: "", EndpointID: "" } };
    const [listed] = ContainersJson.parse([
      {
        Id: ID,
        State,
        Status,
        NetworkSettings: { Networks: networks },
        Names: ["/web/db", "/db"],
      },
    ]);
    expect(listed).toMatchObject({ name: "db", state, health });
    expect(listed?.networks).toEqual([{ name: "app", id: undefined, endpoint: undefined }]);
  });

  test.each([
    [{ Test: ["CMD", "true"] }, true],
    [{ Test: ["CMD-SHELL", "true"] }, true],
    [{ Test: ["NONE"] }, false],
    [{ Test: [] }, false],
    [{}, false],
    [null, false],
  ])("of a health check %j: %s", (Healthcheck, checked) => {
    const details = ContainerJson.parse({
      Id: ID,
      Name: "/c1",
      Config: { Healthcheck },
      NetworkSettings: { Networks: {} },
      State: {
        Running: false,
        Paused: false,
        Restarting: false,
        StartedAt: "0001-01-01T00:00:00Z",
      },
    });
    expect(details).toMatchObject({ checked, stopSignal: 15, resolvers: false });
  });

  test.each([
    [{ "80/tcp": [{ HostPort: "8080" }], "53/udp": null }, ["53/udp", "80/tcp"]],
    [{}, []],
    [null, []],
  ])("of published ports %j: %j", (PortBindings, published) => {
    const details = ContainerJson.parse({
      Id: ID,
      Name: "/c1",
      Config: {},
      HostConfig: { PortBindings },
      NetworkSettings: { Networks: {} },
      State: { Running: true, Paused: false, Restarting: false, StartedAt: "2026-01-01T00:00:00Z" },
    });
    expect(details).toMatchObject({ published });
  });

  test.each([
    [{ "80/tcp": {}, "443/tcp": {} }, { "53/udp": null }, ["53/udp", "80/tcp", "443/tcp"]],
    [{ "80/tcp": {}, "80/sctp": {}, x: {} }, { "80/tcp": null }, ["80/tcp"]],
    [null, null, []],
  ])("of exposed ports %j and published ones %j: %j", (ExposedPorts, PortBindings, ports) => {
    expect(detailsOf({ ExposedPorts }, { PortBindings })).toMatchObject({ ports });
  });

  test("as many ports as a document takes, the lowest", () => {
    const all = Array.from({ length: 60 }, (_, i) => `${9000 - i}/tcp`);
    const ExposedPorts = Object.fromEntries(all.map((port) => [port, {}]));
    const { ports } = detailsOf({ ExposedPorts }, {});
    expect(ports).toHaveLength(32);
    expect(ports[0]).toBe("8941/tcp");
    const { success } = Endpoint.safeParse({ ...endpoint(1, 1), ports });
    expect(success).toBe(true);
  });

  test("of labels those that ask for a virtual address", () => {
    const Labels = {
      "overlay-ts.vip": "shop",
      "overlay-ts.vip.sticky": "true",
      "com.docker.compose.service": "web",
      other: "x",
    };
    const labels = { vip: "shop", sticky: "true", service: "web" };
    expect(detailsOf({ Labels }, {}).labels).toEqual(labels);
    expect(detailsOf({}, {}).labels.vip).toBeUndefined();
  });

  test("events of what nobody asked for are passed over; what is none ends the stream", () => {
    const volume = { Type: "volume", Action: "create", Actor: { ID: "v" }, timeNano: 1 };
    expect(readEvent(JSON.stringify(volume))).toBeUndefined();
    expect(() => readEvent("{}")).toThrow();
  });
});
