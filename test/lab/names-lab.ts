import { execFileSync } from "node:child_process";
import { expect } from "vitest";
import { GATE_TABLE } from "../../agent/names/server/gate-table.ts";
import { Asking } from "../support/asking.ts";
import { ENGINE_KINDS } from "../support/engine-root.ts";
import { glibcImage, muslImage } from "../support/image.ts";
import { eventually, type LabHost, NAMESERVER } from "../support/lab-host.ts";
import { UpstreamDns } from "../support/upstream-dns.ts";
import { addressOf, netnsOf, OURS, pidOf, start } from "./containers.ts";
import { Lab, switchOf } from "./lab.ts";

/** Images beside busybox's. GLIBC has getent, MUSL has `resolve`; TOOLS is 60 MB: few containers of it. */
export const GLIBC = "overlay-ts-glibc";
export const MUSL = "overlay-ts-musl";
export const TOOLS = "overlay-ts-tools";

/** What libcs and programs make of a name: image, and the command that the name is added to. */
export const LOOKUPS = {
  "busybox nslookup": ["overlay-ts-lab", "/bin/nslookup"],
  "glibc getent": [GLIBC, "/usr/bin/getent", "ahosts"],
  "musl getaddrinfo": [MUSL, "/bin/resolve"],
} as const;

/** Three hosts, an engine of each kind, and the name server that they have besides. */
export class NamesLab {
  readonly lab: Lab;
  readonly upstream: UpstreamDns;
  readonly hosts: readonly [LabHost, LabHost, LabHost];

  private constructor(lab: Lab, upstream: UpstreamDns) {
    this.lab = lab;
    this.upstream = upstream;
    this.hosts = [...lab.hosts] as [LabHost, LabHost, LabHost];
  }

  static async up(directory: string): Promise<NamesLab> {
    const lab = await Lab.up({
      directory,
      hosts: 3,
      docker: true,
      engines: ENGINE_KINDS,
      say: () => {},
    });
    const upstream = await UpstreamDns.start(switchOf(lab), NAMESERVER);
    const made = new NamesLab(lab, upstream);
    const images = [
      [GLIBC, glibcImage(directory, "/usr/bin/getent")],
      [MUSL, muslImage(directory)],
    ] as const;
    await Promise.all([
      lab.form(() => {}),
      ...lab.hosts.map(async (host) => {
        for (const [name, tar] of images) await host.docker("import", tar, name);
      }),
    ]);
    return made;
  }

  /** Real dig, nslookup and wget, where a test wants them. */
  async importTools(...hosts: readonly LabHost[]): Promise<void> {
    const programs = ["dig", "nslookup", "wget", "getent"].map((name) => `/usr/bin/${name}`);
    const tar = glibcImage(this.lab.directory, ...programs);
    for (const host of hosts) await host.docker("import", tar, TOOLS);
  }

  /** A second one, at an address of its own. */
  async anotherUpstream(address: string): Promise<UpstreamDns> {
    const netns = switchOf(this.lab);
    const command = [`--net=${netns}`, "ip", "address", "add", `${address}/24`, "dev", "sw"];
    execFileSync("nsenter", command);
    return UpstreamDns.start(netns, address);
  }

  async down(): Promise<void> {
    this.upstream.close();
    await Lab.down(this.lab.directory);
  }

  /** A network, on every host. */
  async network(name: string, ...options: readonly string[]): Promise<void> {
    await this.hosts[0].docker(...OURS, ...options, name);
    for (const host of this.hosts) await host.waitForNetwork(name);
  }

  async allAgree(): Promise<void> {
    for (const host of this.hosts)
      await eventually(60_000, `agreement on ${host.name}`, () => host.agrees());
  }

  /** Every container that was started with `run`. */
  async clean(): Promise<void> {
    await Promise.all(
      this.hosts.map(async (host) => {
        const ids = (await host.docker("ps", "-aq")).split("\n").filter(Boolean);
        if (ids.length > 0) await host.docker("rm", "-f", ...ids);
      }),
    );
  }
}

/** A container of a host, and who asks there. */
export interface Member {
  readonly host: LabHost;
  readonly name: string;
  readonly address: string;
  readonly asking: Asking;
}

export async function member(
  host: LabHost,
  name: string,
  network: string,
  ...options: readonly string[]
): Promise<Member> {
  const address = await start(host, name, network, ...options);
  return { host, name, address, asking: await askingIn(host, name) };
}

/** One that runs another program. */
export async function running(
  host: LabHost,
  name: string,
  network: string,
  ...imageAndCommand: readonly string[]
): Promise<Member> {
  const options = ["--name", name, "--network", network];
  await host.docker("run", "-d", ...options, ...imageAndCommand);
  const address = await addressOf(host, name, network);
  return { host, name, address, asking: await askingIn(host, name) };
}

/** For a container that started anew: its namespace is another. */
export async function askingIn(host: LabHost, container: string): Promise<Asking> {
  return new Asking(await netnsOf(host, container));
}

/** Its questions are led to us by a table in its namespace. */
export async function hasGate(host: LabHost, container: string): Promise<boolean> {
  const pid = await pidOf(host, container);
  const text = await host.exec("nsenter", `--net=/proc/${pid}/ns/net`, "nft", "list", "tables");
  return text.split("\n").includes(`table ${GATE_TABLE}`);
}

/** In the end everybody finds exactly these addresses. */
export async function allFind(
  members: readonly Member[],
  name: string,
  addresses: readonly string[],
): Promise<void> {
  const wanted = addresses.toSorted();
  for (const { host, name: asker, asking } of members)
    await eventually(60_000, `${name} as ${asker} on ${host.name} should find it`, async () => {
      expect(await asking.addresses(name)).toEqual(wanted);
    });
}

/** A container that ends with its first command: what that said. */
export function runOnce(
  host: LabHost,
  network: string,
  ...imageAndCommand: readonly string[]
): Promise<string> {
  return host.docker("run", "--rm", "--network", network, ...imageAndCommand);
}
