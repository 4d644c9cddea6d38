import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { VipList } from "../../agent/api/vips.ts";
import type { Asking } from "../support/asking.ts";
import { ENGINE_KINDS } from "../support/engine-root.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { addressOf, OURS, pidOf, start } from "./containers.ts";
import { IMAGE, Lab } from "./lab.ts";
import { askingIn } from "./names-lab.ts";

/**
 * A service of Compose on three hosts, an engine of each kind, behind a virtual address that its label asks for: dialled
 * from all three, and rolled over under a steady load.
 */

vi.setConfig({ testTimeout: 300_000, hookTimeout: 600_000 });

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-vip-test-"));
const REQUESTS = 20;
let lab: Lab;
let clients: { readonly host: LabHost; readonly asking: Asking }[];
let vip: string;

/** Says where it runs; told to end, it takes what is on its way for two more seconds, as servers do. */
const SERVER = [
  "echo $$WHERE > /index.html",
  "trap 'sleep 2; exit 0' TERM",
  "httpd -f -p 80 -h / & wait",
].join("; ");

/** Of Compose, as its users write it. */
async function compose(host: LabHost, ...command: string[]): Promise<string> {
  const file = join(host.directory, "web.json");
  const web = {
    image: IMAGE,
    command: ["/bin/sh", "-c", SERVER],
    environment: { WHERE: host.name },
    expose: ["80"],
    labels: { "overlay-ts.vip": "true" },
    networks: ["app"],
  };
  const networks = { app: { external: true } };
  // JSON is YAML.
  writeFileSync(file, JSON.stringify({ version: "3.8", services: { web }, networks }));
  return host.compose("-p", "shop", "-f", file, ...command);
}

const member = async (host: LabHost): Promise<string> =>
  (await host.docker("ps", "-q", "--filter", "label=com.docker.compose.service=web")).trim();

async function vips(host: LabHost): Promise<VipList["vips"]> {
  const list = await host.ask<VipList>("vips?network=app");
  return list.vips;
}

/** In the client's namespaces. */
async function inClient(host: LabHost, script: string): Promise<string> {
  const enter = [`--target=${await pidOf(host, "client")}`, "--mount", "--net"];
  return host.exec("nsenter", ...enter, "--", "/bin/sh", "-c", script);
}

const GET = "timeout 10 wget -q -O -";

/** Who answered, each once. @throws when a request was not answered */
async function asked(host: LabHost, address: string, requests = REQUESTS): Promise<string[]> {
  const script = `i=0; while [ $i -lt ${requests} ]; do ${GET} http://${address}/ || exit 1; i=$((i+1)); done`;
  const lines = (await inClient(host, script)).split("\n");
  return [...new Set(lines.filter(Boolean))].toSorted();
}

/** One request after another, until it is told to end; what came of each. */
async function load(host: LabHost, address: string): Promise<() => Promise<string[]>> {
  const script = `rm -f /end; while [ ! -e /end ]; do ${GET} http://${address}/ || echo failed; done`;
  const answers = inClient(host, script);
  return async () => {
    await inClient(host, "touch /end");
    return (await answers).split("\n").filter(Boolean);
  };
}

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 3, docker: true, engines: ENGINE_KINDS, say: () => {} });
  await lab.form(() => {});
  await lab.hosts[0]?.docker(...OURS, "--ipv6", "--subnet", "fd00:73::/64", "app");
  clients = await Promise.all(
    lab.hosts.map(async (host) => {
      await host.waitForNetwork("app");
      await compose(host, "up", "-d");
      await start(host, "client", "app");
      return { host, asking: await askingIn(host, "client") };
    }),
  );
});

afterAll(() => Lab.down(directory));

const names = (): string[] => lab.hosts.map(({ name }) => name);

test("the label gives the service an address: its name answers that, tasks.NAME the members", async () => {
  const [h1] = lab.hosts as [LabHost];
  await eventually(60_000, "a virtual address with three members", async () => {
    expect(await vips(h1)).toMatchObject([{ name: "web", madeBy: "label", members: 3, ready: 3 }]);
  });
  [vip = ""] = (await vips(h1))[0]?.ips ?? [];
  const members = await Promise.all(
    lab.hosts.map(async (host) => addressOf(host, await member(host), "app")),
  );
  expect(members).not.toContain(vip);
  for (const { host, asking } of clients) {
    await eventually(60_000, `web on ${host.name}`, async () => {
      expect(await asking.addresses("web")).toEqual([vip]);
    });
    expect(await asking.addresses("tasks.web")).toEqual(members.toSorted());
    expect(await asking.addresses("web", { type: "AAAA" })).toHaveLength(1);
  }
});

test("every member answers by it, on all hosts, and kernel and tables agree", async () => {
  for (const { host } of clients)
    await eventually(60_000, `all members from ${host.name}`, async () => {
      expect(await asked(host, vip)).toEqual(names());
    });
  for (const { host } of clients) await eventually(60_000, "agreement", () => host.agrees());
});

test("rolled over, one host after the other: no request of a steady load fails", async () => {
  const loads = await Promise.all(clients.map(({ host }) => load(host, vip)));
  for (const { host } of clients) {
    const before = await member(host);
    await compose(host, "up", "-d", "--force-recreate");
    expect(await member(host)).not.toBe(before);
    for (const each of clients)
      await eventually(30_000, `three members on ${each.host.name}`, async () => {
        expect((await vips(each.host))[0]).toMatchObject({ members: 3, ready: 3 });
      });
  }
  for (const end of loads) {
    const answers = await end();
    expect(answers).not.toContain("failed");
    expect([...new Set(answers)].toSorted()).toEqual(names());
    expect(answers.length).toBeGreaterThan(5 * REQUESTS);
  }
});

test("`docker stop`: no new connection goes there, and none fails", async () => {
  const [, h2] = lab.hosts as [LabHost, LabHost];
  await h2.docker("stop", await member(h2));
  for (const { host } of clients)
    await eventually(20_000, `the others from ${host.name}`, async () => {
      expect((await vips(host))[0]).toMatchObject({ ready: 2 });
      expect(await asked(host, vip)).toEqual(["h1", "h3"]);
    });
  for (const { host, asking } of clients) {
    expect(await asked(host, vip, 3 * REQUESTS)).toEqual(["h1", "h3"]);
    expect(await asking.addresses("web")).toEqual([vip]);
  }
});

test("the command gives one to any name, and takes it back", async () => {
  const [h1, h2] = lab.hosts as [LabHost, LabHost];
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
      expect(await asking.addresses("client")).toHaveLength(3);
    });
});
