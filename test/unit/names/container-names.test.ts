import { describe, expect, test } from "vitest";
import type { DockerNetworkId } from "../../../shared/ids.ts";
import { signalNumber } from "../../../agent/docker/signals.ts";
import { ContainerJson, ContainersJson, readEvent } from "../../../agent/docker/engine-json.ts";
import { ContainerNames, namesOf } from "../../../agent/docker/names.ts";

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
    expect(namesOf(container, ["web", ID.slice(0, 12), "WWW", "www."])).toEqual({
      names: ["web", "0123456789ab", "web.example", "www"],
      leftOut: 0,
    });
  });

  test("are as many as a document takes", () => {
    const aliases = Array.from({ length: 100 }, (_, k) => `a${k}`);
    const { names, leftOut } = namesOf({ id: ID, name: "c1", hostname: "" }, aliases);
    expect([names.length, leftOut]).toEqual([32, 70]);
    expect(names.slice(0, 2)).toEqual(["c1", ID.slice(0, 12)]);
  });
});

test("a container whose end was not told is asked for, and forgotten", () => {
  const none = (network: string): network is DockerNetworkId => network === "";
  const names = new ContainerNames(none);
  const happened = { kind: "container", attributes: {}, atMs: 0, container: ID } as const;
  const look = [{ kind: "container", container: ID }];
  expect(names.happened({ ...happened, action: "create" }, 0)).toEqual(look);
  expect(names.listed([], new Map())).toEqual(look);
  names.looked(ID, undefined);
  expect(names.listed([], new Map())).toEqual([]);
});

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
    expect(details).toMatchObject({ checked, stopSignal: 15, stopTimeoutMs: 10_000 });
  });

  test("events of what nobody asked for are passed over; what is none ends the stream", () => {
    const volume = { Type: "volume", Action: "create", Actor: { ID: "v" }, timeNano: 1 };
    expect(readEvent(JSON.stringify(volume))).toBeUndefined();
    expect(() => readEvent("{}")).toThrow();
  });
});
