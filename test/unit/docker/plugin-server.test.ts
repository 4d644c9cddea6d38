import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PluginServer } from "../../../agent/docker/plugin/server.ts";
import type { NetworkDriver } from "../../../agent/docker/plugin/port.ts";
import type { IpamDriver } from "../../../agent/networks/ipam-port.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { Cidr, Ip } from "../../../shared/ip.ts";
import { ruleMac } from "../../../shared/mac.ts";
import { silentLog } from "../../../shared/ports.ts";

const NETWORK = "9a".repeat(32);
const ENDPOINT = "f1".repeat(32);
const ip = Ip.parse("10.1.0.9");
const subnet = Cidr.parse("10.1.0.0/24");
let directory: string;
let path: string;
let server: PluginServer;
let calls: string[];

const network: NetworkDriver = {
  createNetwork: async ({ id }) => void calls.push(`create ${id.slice(0, 4)}`),
  deleteNetwork: () =>
    Promise.reject(new OverlayError({ code: "CONFLICT", message: "it is in use", next: "wait" })),
  createEndpoint: async () => ({ mac: ruleMac(ip) }),
  deleteEndpoint: async () => {},
  join: async ({ publishes }) => ({
    link: "ovc1",
    prefix: "eth",
    internal: publishes,
    gateways: publishes ? [] : [ip, Ip.parse("fd00::1")],
  }),
  leave: async () => {},
};
const ipam: IpamDriver = {
  requestPool: async () => ({ id: "p-1", subnet }),
  releasePool: async () => {},
  requestAddress: async () => ({ ip, subnet }),
  releaseAddress: async () => {},
};

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "ovt-plugin-"));
  path = join(directory, "overlay-ts.sock");
  calls = [];
  server = new PluginServer(path, { network, ipam, log: silentLog });
  await server.start();
});

afterEach(async () => {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

function call(name: string, body: unknown = ""): Promise<{ status: number; answer: unknown }> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: path, method: "POST", path: `/${name}` }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString()));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, answer: JSON.parse(text) as unknown }),
      );
    });
    asked.on("error", reject);
    asked.end(body === "" ? "" : JSON.stringify(body));
  });
}

const ok = (answer: unknown) => ({ status: 200, answer });

describe("the plugin", () => {
  test("says what it is, to a call without a body", async () => {
    expect(await call("Plugin.Activate")).toEqual(
      ok({ Implements: ["NetworkDriver", "IpamDriver"] }),
    );
    expect(await call("NetworkDriver.GetCapabilities")).toEqual(
      ok({ Scope: "local", ConnectivityScope: "global" }),
    );
  });

  test("fills in only what Docker left empty", async () => {
    const ids = { NetworkID: NETWORK, EndpointID: ENDPOINT };
    const empty = { ...ids, Interface: { Address: "10.1.0.9/24", MacAddress: "" } };
    expect(await call("NetworkDriver.CreateEndpoint", empty)).toEqual(
      ok({ Interface: { MacAddress: "02:42:0a:01:00:09" } }),
    );
    const given = {
      ...ids,
      Interface: { Address: "10.1.0.9/24", MacAddress: "aa:bb:cc:dd:ee:f0" },
    };
    expect(await call("NetworkDriver.CreateEndpoint", given)).toEqual(ok({ Interface: {} }));
  });

  test("Join names a link, and the gateways of one that leaves by them", async () => {
    const body = { NetworkID: NETWORK, EndpointID: ENDPOINT, SandboxKey: "/run/x" };
    const link = { InterfaceName: { SrcName: "ovc1", DstPrefix: "eth" } };
    expect(await call("NetworkDriver.Join", body)).toEqual(
      ok({ ...link, Gateway: ip, GatewayIPv6: "fd00::1", DisableGatewayService: false }),
    );
    const publishing = { "com.docker.network.portmap": [{ Proto: 6, Port: 80, HostPort: 8080 }] };
    expect(await call("NetworkDriver.Join", { ...body, Options: publishing })).toEqual(
      ok({ ...link, DisableGatewayService: true }),
    );
  });

  test("says how long Docker waited for each call that was answered, and not of others", async () => {
    const before = server.counts().calls["IpamDriver.RequestAddress"]?.took;
    await call("IpamDriver.RequestAddress", { PoolID: "p-1" });
    await call("NetworkDriver.DeleteNetwork", { NetworkID: NETWORK });
    const { calls } = server.counts();
    const took = calls["IpamDriver.RequestAddress"]!.took!;
    const sum = (counts: readonly number[] = []): number => counts.reduce((a, b) => a + b, 0);
    expect(sum(took.counts)).toBe(sum(before?.counts) + 1);
    expect(took.counts).toHaveLength(took.upToMs.length + 1);
    expect(calls["NetworkDriver.DeleteNetwork"]).not.toHaveProperty("took");
  });

  test("addresses go with their prefix", async () => {
    expect(await call("IpamDriver.RequestAddress", { PoolID: "p-1" })).toEqual(
      ok({ Address: "10.1.0.9/24", Data: {} }),
    );
  });

  test("a failure is told in both fields, with what to do", async () => {
    const text = "it is in use (wait)";
    expect(await call("NetworkDriver.DeleteNetwork", { NetworkID: NETWORK })).toEqual({
      status: 500,
      answer: { Err: text, Error: text },
    });
  });

  test("what it does not know, or cannot read, reaches nobody", async () => {
    for (const name of ["NetworkDriver.Nothing", "constructor"])
      expect((await call(name)).status).toBe(404);
    expect((await call("NetworkDriver.CreateNetwork")).status).toBe(500);
    expect(calls).toEqual([]);
  });

  test("only root opens the socket; a dead one is replaced, a living one is not", async () => {
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const second = new PluginServer(path, { network, ipam, log: silentLog });
    await expect(second.start()).rejects.toMatchObject({ code: "PORT_TAKEN" });
    const dead = join(directory, "dead.sock");
    writeFileSync(dead, "");
    const third = new PluginServer(dead, { network, ipam, log: silentLog });
    await third.start();
    await third.stop();
  });

  test("closes no connection that Docker keeps for its next call", async () => {
    const agent = new Agent({ keepAlive: true });
    const asked = request({ socketPath: path, method: "POST", path: "/Plugin.Activate", agent });
    const headers = await new Promise<IncomingHttpHeaders>((resolve) => {
      asked.on("response", (response) => resolve(response.resume().headers)).end();
    });
    // A server that closes idle ones says after how long.
    expect(headers).toMatchObject({ connection: "keep-alive" });
    expect(headers).not.toHaveProperty("keep-alive");
    agent.destroy();
  });

  test("stops after the calls under way, whatever connections Docker keeps open", async () => {
    const silent = connect(path);
    await new Promise<void>((resolve) => silent.once("connect", () => resolve()));
    const answer = Promise.withResolvers<{ id: string; subnet: Cidr }>();
    const asked = Promise.withResolvers<void>();
    const slow = new PluginServer(join(directory, "slow.sock"), {
      network,
      log: silentLog,
      ipam: {
        ...ipam,
        requestPool: () => {
          asked.resolve();
          return answer.promise;
        },
      },
    });
    await slow.start();
    path = join(directory, "slow.sock");
    const waiting = call("IpamDriver.RequestPool", { AddressSpace: "overlay-ts" });
    await asked.promise;
    const stopped = slow.stop();
    answer.resolve({ id: "p-1", subnet });
    expect(await waiting).toMatchObject({ status: 200 });
    await stopped;
    await server.stop();
    silent.destroy();
  });
});
