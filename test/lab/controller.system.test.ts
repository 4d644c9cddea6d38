import { cpSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { OURS, reaches, refusal, start } from "./containers.ts";
import { Lab } from "./lab.ts";

/**
 * The controller is away, comes back with old data, and is replaced by another: what runs goes on, what
 * cannot be decided says so, and nothing that was ever given out is given out again. The tests follow
 * from each other, as a bad week would.
 */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-controller-test-"));
let lab: Lab;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;
/** Of every network that ever was. */
const vnis: number[] = [];

const dataOf = (host: LabHost): string => join(host.directory, "data/controller");
const fileOf = (name: string): string => join(directory, name);

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 3, docker: true, say: () => {} });
  [h1, h2, h3] = lab.hosts as [LabHost, LabHost, LabHost];
  await lab.form(() => {});
  renameSync(join(dataOf(h1), "root.key"), fileOf("root.key"));
  await makeNetwork(h1, "app");
  for (const host of [h2, h3]) await host.waitForNetwork("app");
  for (const host of lab.hosts) await start(host, "still", "app");
});

afterAll(() => Lab.down(directory));

async function makeNetwork(host: LabHost, name: string): Promise<number> {
  await host.docker(...OURS, name);
  const { vni } = await eventually(10_000, `network ${name} by its name`, async () => {
    const shown = await host.overlay("network", "inspect", name);
    return JSON.parse(shown) as NetworkRecord;
  });
  vnis.push(vni);
  return vni;
}

async function controllerUp(host: LabHost): Promise<void> {
  host.startController();
  await eventually(30_000, "the controller", async () => {
    // What the command adds to the agent's own.
    const status = JSON.parse(await host.statusText("--json")) as {
      controllerHere?: object;
    };
    expect(status.controllerHere).toBeDefined();
  });
}

/** What holds whatever the controller does: a new container, found by name and reached. */
async function lifeGoesOn(name: string): Promise<void> {
  const address = await start(h2, name, "app");
  await reaches(h1, "still", name);
  await reaches(h3, "still", address);
  await h2.docker("rm", "-f", name);
}

async function decidesNothing(host: LabHost, why: RegExp): Promise<void> {
  // Who holds more may tell it a moment after its start.
  await eventually(30_000, "why it decides nothing", async () =>
    expect(await host.statusText()).toMatch(why),
  );
  expect(await refusal(host.overlay("token", "create"))).toMatch(why);
}

async function decides(host: LabHost): Promise<void> {
  const before = Math.max(...vnis);
  expect(await makeNetwork(host, `made-after-${before}`)).toBeGreaterThan(before);
}

test("with the controller away containers start and have names, and what it alone decides says why not", async () => {
  await h1.stopService("controller", "KILL");
  await lifeGoesOn("meanwhile");
  await h2.docker("restart", "-t", "0", "still");
  await reaches(h1, "still", "still");
  for (const refused of [
    await refusal(h2.docker(...OURS, "never")),
    await refusal(h3.overlay("key", "rotate", "--network", "app")),
  ]) {
    expect(refused).toMatch(/the controller at 198\.51\.100\.1:7952\/tcp does not answer/);
    expect(refused).toMatch(/systemctl status overlay-ts-controller/);
  }
  expect(await h2.statusText()).toMatch(/controller: the controller at .* does not answer/);
  // Without it its data can still be saved.
  await h1.overlay("controller", "backup", fileOf("early"));
  expect(statSync(fileOf("early")).mode & 0o777).toBe(0o600);
  expect(await refusal(h1.overlay("controller", "backup", fileOf("early")))).toMatch(
    /there already/,
  );
  expect(readFileSync(fileOf("early"), "utf8")).not.toContain(
    readFileSync(fileOf("root.key"), "utf8").trim(),
  );
  cpSync(dataOf(h1), fileOf("copy"), { recursive: true });
  await controllerUp(h1);
});

describe("its data are older than what hosts hold:", () => {
  test("restored from a backup it decides nothing before it has met them", async () => {
    await makeNetwork(h1, "later");
    await makeNetwork(h2, "ended");
    await h2.docker("network", "rm", "ended");
    await h1.stopService("controller", "KILL");
    expect(await refusal(h1.overlay("controller", "restore", fileOf("early")))).toMatch(
      /has a cluster's controller already/,
    );
    renameSync(dataOf(h1), fileOf("lost"));
    expect(await h1.overlay("controller", "restore", fileOf("early"))).toMatch(/--from-mesh/);
    await controllerUp(h1);
    await decidesNothing(h1, /restored from a backup/);
    expect(await refusal(h2.docker(...OURS, "never"))).toMatch(/recover --from-mesh/);
    await lifeGoesOn("unmet");

    const said = await h1.overlay("controller", "recover", "--from-mesh");
    expect(said).toMatch(/3 of 3 hosts answered/);
    expect(said).toMatch(/New keys, .*later/);
    expect(await h1.overlay("network", "ls")).toMatch(/later/);
    await decides(h2);
    expect(await h1.overlay("controller", "recover", "--from-mesh")).toMatch(/Nothing to recover/);
  });

  test("copied back by hand, it is told so by who holds more", async () => {
    await h1.stopService("controller", "TERM");
    rmSync(dataOf(h1), { recursive: true });
    cpSync(fileOf("copy"), dataOf(h1), { recursive: true });
    await controllerUp(h1);
    await decidesNothing(h1, /its data are old/);
    expect(await refusal(h2.docker(...OURS, "never"))).toMatch(/data are old/);
    await h1.overlay("controller", "recover", "--from-mesh");
    await decides(h2);
  });
});

describe("another takes over:", () => {
  test("the root key makes h2 the controller, without a backup", async () => {
    await h1.stopService("controller", "KILL");
    const said = await h2.overlay("controller", "promote", "--root-key", fileOf("root.key"));
    expect(said).toMatch(/at 198\.51\.100\.2, of generation 1/);
    expect(said).toMatch(/Told to 3 hosts/);
    await controllerUp(h2);
    await decides(h3);
    await lifeGoesOn("promoted");
  });

  test("the one before comes back, decides nothing, and says that it is over", async () => {
    await controllerUp(h1);
    await decidesNothing(h1, /at 198\.51\.100\.2 has taken over/);
    expect(await refusal(h1.overlay("controller", "recover", "--from-mesh"))).toMatch(
      /has taken over/,
    );
    await decides(h3);
    await h1.stopService("controller", "TERM");
  });

  test("a backup of the new one serves on another host, at another address", async () => {
    await h2.overlay("controller", "backup", fileOf("moved"));
    await decides(h3);
    await h2.stopService("controller", "KILL");
    const options = ["--address", "198.51.100.3"];
    await h3.overlay("controller", "restore", fileOf("moved"), ...options);
    await h3.overlay("controller", "recover", "--from-mesh");
    await controllerUp(h3);
    await decides(h1);
    await h3.overlay("token", "create");
    await lifeGoesOn("moved");
  });
});

test("in the end all agree", async () => {
  expect(new Set(vnis).size).toBe(vnis.length);
  for (const host of lab.hosts) await eventually(60_000, "agreement", () => host.agrees());
});
