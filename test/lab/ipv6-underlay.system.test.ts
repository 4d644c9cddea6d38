import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { OURS, reaches, refusal, start } from "./containers.ts";
import { Lab } from "./lab.ts";

/** Two hosts that talk IPv6 to each other: mesh, controller, VXLAN, guards, data-path proof. */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-ipv6-test-"));
let lab: Lab;
let h1: LabHost;
let h2: LabHost;

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 2, docker: true, say: () => {} });
  await lab.form(() => {}, 6);
  [h1, h2] = lab.hosts as [LabHost, LabHost];
});

afterAll(() => Lab.down(directory));

test("the hosts reach each other by IPv6 alone, and prove the data path", async () => {
  for (const host of [h1, h2]) await host.exec("ip", "-4", "address", "flush", "dev", "eth0");
  await eventually(30_000, "the data path", async () => {
    const { peers, dataPath } = await h2.status();
    expect(peers).toMatchObject([{ name: "h1", connected: true }]);
    expect(dataPath).toMatchObject([{ name: "h1", bytes: 1430 }]);
    expect(dataPath[0]?.roundTripMs).toBeGreaterThan(0);
  });
});

test("containers reach one another at full size in both families", async () => {
  await h1.docker(...OURS, "--ipv6", "--subnet", "fd00:63::/64", "six");
  await h2.waitForNetwork("six");
  const ipv4 = await start(h1, "s1", "six");
  await start(h2, "s2", "six");
  const format = '{{(index .NetworkSettings.Networks "six").GlobalIPv6Address}}';
  const ipv6 = (await h1.docker("inspect", "-f", format, "s1")).trim();
  expect(await h2.docker("exec", "s2", "/bin/ip", "link", "show", "eth0")).toContain("mtu 1430");
  for (const [address, size] of [
    [ipv4, 1430 - 28],
    [ipv6, 1430 - 48],
  ] as const) {
    await reaches(h2, "s2", address);
    const full = ["exec", "s2", "/bin/ping", "-c", "2", "-s", String(size), address];
    expect(await h2.docker(...full)).toContain("2 packets received");
  }
  for (const host of [h1, h2])
    await eventually(20_000, `agreement on ${host.name}`, () => host.agrees());
});

test("guards stand in the family of the underlay, and a subnet of it is refused", async () => {
  const rules = await h1.exec("nft", "list", "table", "inet", "overlay_ts");
  expect(rules).toMatch(/set vteps \{\s+type ipv6_addr\s+elements = \{ 2001:db8::2 \}/);
  const said = await refusal(
    h1.docker(...OURS, "--ipv6", "--subnet", "2001:db8::/64", "underlays"),
  );
  expect(said).toMatch(/overlaps 2001:db8::\/64, which host h\d uses/);
});
