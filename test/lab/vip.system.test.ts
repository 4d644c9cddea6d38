import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { VipList } from "../../agent/api/vips.ts";
import type { Asking } from "../support/asking.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { addressOf, ENDS_AT_ONCE, OURS, pidOf, start } from "./containers.ts";
import { IMAGE, Lab } from "./lab.ts";
import { askingIn } from "./names-lab.ts";

/** A service of three containers on two hosts behind a virtual address, dialled from both. */

vi.setConfig({ testTimeout: 300_000, hookTimeout: 600_000 });

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-vip-test-"));
const REQUESTS = 20;
let lab: Lab;
let h1: LabHost;
let h2: LabHost;
let clients: { readonly host: LabHost; readonly asking: Asking }[];
let members: string[];
let vip: string;

/** A web server that says its name. */
async function serve(host: LabHost, name: string, ...options: string[]): Promise<string> {
  const script = `echo ${name} > /index.html; exec httpd -f -p 80 -h /`;
  const of = ["--name", name, "--network", "app", "--expose", "80", ...ENDS_AT_ONCE, ...options];
  await host.docker("run", "-d", ...of, IMAGE, "/bin/sh", "-c", script);
  return addressOf(host, name, "app");
}

async function vips(host: LabHost): Promise<VipList["vips"]> {
  const list = await host.ask<VipList>("vips?network=app");
  return list.vips;
}

/** Who answered, each once. @throws when a request was not answered */
async function asked(host: LabHost, address: string, requests = REQUESTS): Promise<string[]> {
  const script = `i=0; while [ $i -lt ${requests} ]; do timeout 10 wget -q -O - http://${address}/ || exit 1; i=$((i+1)); done`;
  const enter = [`--target=${await pidOf(host, "client")}`, "--mount", "--net"];
  const text = await host.exec("nsenter", ...enter, "--", "/bin/sh", "-c", script);
  return [...new Set(text.split("\n").filter(Boolean))].toSorted();
}

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 2, docker: true, engines: ["28.5"], say: () => {} });
  [h1, h2] = lab.hosts as [LabHost, LabHost];
  await lab.form(() => {});
  await h1.docker(...OURS, "--ipv6", "--subnet", "fd00:73::/64", "app");
  await h2.waitForNetwork("app");
  const label = ["--network-alias", "web", "--label", "overlay-ts.vip=true"];
  members = [
    await serve(h1, "w1", ...label),
    await serve(h2, "w2", ...label),
    await serve(h2, "w3", ...label),
  ];
  clients = [];
  for (const host of [h1, h2]) {
    await start(host, "client", "app");
    clients.push({ host, asking: await askingIn(host, "client") });
  }
});

afterAll(() => Lab.down(directory));

test("the label gives the service an address: its name answers that, tasks.NAME the members", async () => {
  await eventually(60_000, "a virtual address with three members", async () => {
    expect(await vips(h1)).toMatchObject([{ name: "web", madeBy: "label", members: 3, ready: 3 }]);
  });
  [vip = ""] = (await vips(h1))[0]?.ips ?? [];
  expect(members).not.toContain(vip);
  for (const { host, asking } of clients) {
    await eventually(60_000, `web on ${host.name}`, async () => {
      expect(await asking.addresses("web")).toEqual([vip]);
    });
    expect(await asking.addresses("tasks.web")).toEqual(members.toSorted());
    expect(await asking.addresses("web", { type: "AAAA" })).toHaveLength(1);
  }
});

test("every member answers by it, on both hosts, and kernel and tables agree", async () => {
  for (const { host } of clients)
    await eventually(60_000, `all members from ${host.name}`, async () => {
      expect(await asked(host, vip)).toEqual(["w1", "w2", "w3"]);
    });
  for (const host of [h1, h2]) await eventually(60_000, "agreement", () => host.agrees());
});

test("`docker stop`: no new connection goes there, and none fails", async () => {
  await h2.docker("stop", "w2");
  for (const { host } of clients)
    await eventually(20_000, `w2 is out on ${host.name}`, async () => {
      expect((await vips(host))[0]).toMatchObject({ ready: 2 });
    });
  for (const { host } of clients)
    await eventually(20_000, `the others from ${host.name}`, async () => {
      expect(await asked(host, vip)).toEqual(["w1", "w3"]);
    });
  for (const { host, asking } of clients) {
    expect(await asked(host, vip, 3 * REQUESTS)).toEqual(["w1", "w3"]);
    expect(await asking.addresses("web")).toEqual([vip]);
  }
});

test("the command gives one to any name, and takes it back", async () => {
  const text = await h2.overlay("vip", "add", "app", "client", "--json");
  const added = JSON.parse(text) as VipList;
  const [given] = added.vips[0]?.ips ?? [];
  expect(added.without).toEqual([]);
  for (const { host, asking } of clients)
    await eventually(60_000, `client on ${host.name}`, async () => {
      expect(await asking.addresses("client")).toEqual([given]);
    });
  await h1.overlay("vip", "rm", "app", "client");
  for (const { asking } of clients)
    await eventually(60_000, "the members again", async () => {
      expect(await asking.addresses("client")).toHaveLength(2);
    });
});
