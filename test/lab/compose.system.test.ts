import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ENGINE_KINDS } from "../support/engine-root.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { addressOf, answering } from "./containers.ts";
import { IMAGE, Lab } from "./lab.ts";

/**
 * One project on several hosts, each with its own Compose: 1.29 with engine 20.10 on h1, 2 with the
 * newer ones on h2 and h3. Compose looks for a network of its own by name, and refuses one that is not as its
 * file says.
 */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-compose-test-"));
let lab: Lab;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 3, docker: true, engines: ENGINE_KINDS, say: () => {} });
  [h1, h2, h3] = lab.hosts as [LabHost, LabHost, LabHost];
  await lab.form(() => {});
});

afterAll(() => Lab.down(directory));

interface Attachment {
  readonly aliases?: readonly string[];
  readonly ipv4_address?: string;
}

/** Services `web` and `db` on the network `app`. */
class Project {
  readonly network: string;
  readonly #name: string;
  readonly #definition: object;

  constructor(name: string, definition: object, network = `${name}_app`) {
    this.#name = name;
    this.#definition = definition;
    this.network = network;
  }

  /** `web`: what differs from host to host. */
  async up(host: LabHost, web: Attachment = {}, ...options: string[]): Promise<void> {
    const service = {
      image: IMAGE,
      command: "/bin/sleep 100000",
      stop_signal: "SIGKILL",
      labels: { project: this.#name },
    };
    const file = {
      version: "3.8",
      services: {
        web: { ...service, networks: { app: web } },
        db: { ...service, networks: { app: {} } },
      },
      networks: { app: this.#definition },
    };
    // JSON is YAML.
    writeFileSync(this.#file(host), JSON.stringify(file));
    await this.#again(host, "up", "-d", ...options);
  }

  down(host: LabHost): Promise<string> {
    return this.#again(host, "down");
  }

  /**
   * Between Compose's look and what it does a view may come back, or go with a network that ends
   * (agent/docker/engine/README.md): once more, as its user would, and never for anything else.
   */
  async #again(host: LabHost, ...args: string[]): Promise<string> {
    try {
      return await this.#compose(host, ...args);
    } catch (error) {
      const { stderr = "" } = error as { stderr?: string };
      if (!/already exists|not found/.test(stderr)) throw error;
      console.warn(`${host.name}: compose ${args.join(" ")}, tried again: ${stderr}`);
      return this.#compose(host, ...args);
    }
  }

  /** The container of `db` there finds the services of its host by name, which is said a moment after they answer. */
  finds(host: LabHost, names: readonly string[]): Promise<void> {
    return eventually(20_000, `names on ${host.name}`, async () =>
      expect(await answering(host, await this.container(host, "db"), names)).toEqual(names),
    );
  }

  async containers(host: LabHost): Promise<string[]> {
    const ids = await host.docker("ps", "-q", "--filter", `label=project=${this.#name}`);
    return ids.split("\n").filter(Boolean);
  }

  async container(host: LabHost, service: string): Promise<string> {
    const text = await this.#compose(host, "ps", "-q", service);
    return text.trim().split("\n")[0] ?? "";
  }

  async address(host: LabHost, service: string): Promise<string> {
    return addressOf(host, await this.container(host, service), this.network);
  }

  async inspect(host: LabHost, format: string): Promise<string> {
    return (await host.docker("network", "inspect", "-f", format, this.network)).trim();
  }

  /** Every container reaches every other one; no two have one address. */
  expectWhole(hosts: readonly LabHost[], perHost = 2): Promise<string[]> {
    // On a network that several hosts joined a moment ago, news may come by comparison only.
    return eventually(30_000, "a whole network", () => this.#expectWhole(hosts, perHost));
  }

  async #expectWhole(hosts: readonly LabHost[], perHost: number): Promise<string[]> {
    const all: { host: LabHost; id: string; address: string }[] = [];
    for (const host of hosts) {
      const ids = await this.containers(host);
      expect(ids).toHaveLength(perHost);
      for (const id of ids)
        all.push({ host, id, address: await addressOf(host, id, this.network) });
    }
    const addresses = all.map(({ address }) => address);
    expect(new Set(addresses).size).toBe(all.length);
    await Promise.all(
      hosts.map(async (host) => {
        const from = all.find((container) => container.host === host)?.id ?? "";
        expect([host.name, ...(await answering(host, from, addresses))]).toEqual([
          host.name,
          ...addresses,
        ]);
      }),
    );
    return addresses;
  }

  #file(host: LabHost): string {
    return join(host.directory, `${this.#name}.json`);
  }

  #compose(host: LabHost, ...command: string[]): Promise<string> {
    return host.compose("-p", this.#name, "-f", this.#file(host), ...command);
  }
}

/** What a container of the same host answers to. */
const NAMES = ["www", "web", "db"];
const OURS = { driver: "overlay-ts" };

test("an external network is used, and left when the project goes", async () => {
  await h2.docker("network", "create", "-d", "overlay-ts", "outside");
  for (const host of [h1, h3]) await host.waitForNetwork("outside");
  const project = new Project("ext", { external: true, name: "outside" }, "outside");
  for (const host of [h1, h2]) await project.up(host);
  await project.expectWhole([h1, h2]);
  for (const host of [h2, h1]) await project.down(host);
  for (const host of [h1, h2, h3]) expect(await project.inspect(host, "{{.Name}}")).toBe("outside");
});

describe("a project's own network", () => {
  const shop = new Project("shop", OURS);

  test("is one on all hosts, with the labels that Compose wants", async () => {
    await shop.up(h2);
    await h1.waitForNetwork(shop.network);
    for (const host of [h1, h3]) await shop.up(host, { aliases: ["www"] });
    await shop.expectWhole([h1, h2, h3]);
    for (const host of [h1, h2, h3])
      expect(JSON.parse(await shop.inspect(host, "{{json .Labels}}"))).toMatchObject({
        "com.docker.compose.network": "app",
        "com.docker.compose.project": "shop",
      });
    await shop.finds(h3, NAMES);
  });

  test("up again changes nothing; --scale adds", async () => {
    const before = await shop.containers(h1);
    for (const host of [h1, h2]) await shop.up(host, host === h1 ? { aliases: ["www"] } : {});
    expect(await shop.containers(h1)).toEqual(before);
    await shop.up(h3, { aliases: ["www"] }, "--scale", "web=3");
    await shop.up(h1, { aliases: ["www"] }, "--scale", "web=3");
    expect(await shop.expectWhole([h1, h3], 4)).toHaveLength(8);
  });

  test("down, also where it was made, takes it from nobody; up joins it again", async () => {
    await shop.down(h2);
    await shop.expectWhole([h1, h3], 4);
    await shop.up(h2);
    await shop.down(h1);
    await shop.up(h1);
    await shop.expectWhole([h1, h2]);
    await shop.expectWhole([h3], 4);
  });

  test("down on all hosts at the same time, and up in another order", async () => {
    const hosts = [h1, h2, h3];
    await Promise.all(hosts.map((host) => shop.down(host)));
    for (const host of hosts.toReversed()) await shop.up(host);
    await shop.expectWhole(hosts);
    await Promise.all(hosts.map((host) => shop.down(host)));
  });
});

test.each([0, 1])("up on all hosts at the same time, round %i", async (round) => {
  const hosts = [h1, h2, h3];
  const race = new Project(`race${round}`, OURS);
  await Promise.all(hosts.map((host) => race.up(host, { aliases: ["www"] })));
  await eventually(30_000, "one network", async () => {
    const networks = await h1.ask<{ name?: string }[]>("networks");
    expect(networks.filter(({ name }) => name === race.network)).toHaveLength(1);
    expect(networks.filter(({ name }) => name === undefined)).toEqual([]);
    await race.expectWhole(hosts);
  });
  for (const host of hosts) await race.finds(host, NAMES);
  await Promise.all(hosts.map((host) => race.down(host)));
});

describe("what the file says of its network", () => {
  test("driver_opts, and labels of one's own", async () => {
    const options = { "com.docker.network.driver.mtu": "1300", "dns.unhealthy": "include" };
    const project = new Project("opts", {
      ...OURS,
      driver_opts: options,
      labels: { "com.example.team": "a" },
    });
    for (const host of [h2, h1, h2, h3]) {
      await project.up(host);
      const web = await project.container(host, "web");
      expect(await host.docker("exec", web, "/bin/ip", "link", "show", "eth0")).toMatch(/mtu 1300/);
      expect(await project.inspect(host, '{{index .Labels "com.example.team"}}')).toBe("a");
      expect(await project.inspect(host, '{{index .Options "dns.unhealthy"}}')).toBe("include");
    }
    await project.expectWhole([h1, h2, h3]);
    await Promise.all([h1, h2, h3].map((host) => project.down(host)));
  });

  const range = (subnet: string): object => ({
    subnet: `${subnet}.0/24`,
    ip_range: `${subnet}.128/25`,
    gateway: `${subnet}.254`,
    aux_addresses: { router: `${subnet}.129`, printer: `${subnet}.193` },
  });

  test.each([
    ["Docker's own IPAM", "ipama", "10.85.1", {}],
    ["ours", "ipamb", "10.85.2", { driver: "overlay-ts" }],
  ])(
    "ipam with %s: subnet, ip_range, gateway, aux_addresses, static addresses",
    async (_, name, subnet, driver) => {
      const project = new Project(name, { ...OURS, ipam: { ...driver, config: [range(subnet)] } });
      for (const host of [h1, h2, h1, h2]) {
        await project.up(host, { ipv4_address: `${subnet}.${host === h1 ? 10 : 20}` });
        expect(await project.inspect(host, "{{json .IPAM.Config}}")).toContain(`${subnet}.254`);
      }
      expect(await project.address(h1, "web")).toBe(`${subnet}.10`);
      expect(await project.address(h2, "web")).toBe(`${subnet}.20`);
      await project.up(h3, {}, "--scale", "web=3");
      const addresses = [
        ...(await project.expectWhole([h1, h2])),
        ...(await project.expectWhole([h3], 4)),
      ];
      const last = addresses.map((address) => Number(address.split(".")[3]));
      expect(new Set(last.filter((n) => n < 128))).toEqual(new Set([10, 20]));
      for (const kept of [129, 193, 254]) expect(last).not.toContain(kept);
      await Promise.all([h1, h2, h3].map((host) => project.down(host)));
    },
  );
});
