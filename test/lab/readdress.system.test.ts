import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { lostDuring } from "../support/hosts.ts";
import { refusal } from "./containers.ts";
import { Lab, startAgent } from "./lab.ts";

/**
 * Hosts get other addresses, as from DHCP or a cloud that starts them anew. No engines: what a network's port on a
 * host goes through is what a container's does.
 */

vi.setConfig({ testTimeout: 240_000, hookTimeout: 300_000 });
const KINDS = ["none", "wireguard"] as const;
const directory = mkdtempSync(join(tmpdir(), "overlay-ts-readdress-test-"));
let lab: Lab;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;
/** In each network, by host. */
const inside = new Map<string, string[]>();

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 3, docker: false, say: () => {} });
  await lab.form(() => {});
  [h1, h2, h3] = lab.hosts as [LabHost, LabHost, LabHost];
  for (const kind of KINDS) await h1.overlay("network", "create", kind, "-o", `encryption=${kind}`);
  for (const host of lab.hosts) inside.set(host.name, await Promise.all(KINDS.map(expose(host))));
  await expectWhole();
});

afterAll(() => Lab.down(directory));

const expose =
  (host: LabHost) =>
  (network: string): Promise<string> =>
    eventually(30_000, `an address on ${host.name}`, async () => {
      const shown = await host.overlay("network", "expose", network, "--json");
      return (JSON.parse(shown) as { ips: [string] }).ips[0];
    });

const echo = (host: LabHost, address: string): Promise<string> =>
  host.exec("/bin/busybox", "ping", "-c", "1", "-W", "1", address);

/** Each host reaches each other one in each network, and all that stands is as it should be. */
async function expectWhole(): Promise<void> {
  for (const host of lab.hosts)
    for (const [name, addresses] of inside)
      for (const address of name === host.name ? [] : addresses)
        await eventually(60_000, `${host.name} to ${name}`, () => echo(host, address));
  for (const host of lab.hosts)
    await eventually(60_000, `agreement on ${host.name}`, () => host.agrees());
}

/** Of fifty echoes a second from each other host to h2 in each network, from before `work` until after it. */
async function lostDuringAll(work: () => Promise<void>): Promise<Record<string, number>> {
  const flows = [h1, h3].flatMap((from) =>
    KINDS.map((kind, i) => ({ from, kind, address: inside.get("h2")?.[i] ?? "" })),
  );
  let answered = 0;
  const begun = Promise.withResolvers<void>();
  const done = begun.promise.then(work);
  const counts = flows.map(({ from, kind, address }) => {
    const round = (): Promise<void> => {
      // The last that is answered begins it.
      if (++answered === flows.length) begun.resolve();
      return done;
    };
    return lostDuring(from.netns, address, [round]).then((lost) => [`${from.name} ${kind}`, lost]);
  });
  return Object.fromEntries(await Promise.all(counts)) as Record<string, number>;
}

async function moved(host: LabHost, from: string, to: string): Promise<void> {
  await host.exec("ip", "address", "del", `${from}/24`, "dev", "eth0");
  await host.exec("ip", "address", "add", `${to}/24`, "dev", "eth0");
}

test("a host whose address went says so, takes the one that it has by a command, and keeps what it had", async () => {
  await moved(h2, "198.51.100.2", "198.51.100.52");
  const said = /198\.51\.100\.2 is on none of its interfaces\n.*overlay-ts node readdress/s;
  await eventually(30_000, "the word of it", async () =>
    expect(await refusal(h2.statusText())).toMatch(said),
  );
  // There is nothing to compare with for who takes no part.
  expect(await refusal(h2.overlay("verify"))).toMatch(said);
  // An agent that starts meanwhile says the same.
  await h2.stopService("agent", "KILL");
  startAgent(h2, false);
  await eventually(30_000, "the word of it", async () =>
    expect(await refusal(h2.statusText())).toMatch(said),
  );
  expect(h2.log("agent")).not.toMatch(/libp2p/);
  const before = inside.get("h2");
  expect(await h2.overlay("node", "readdress")).toMatch(
    /at 198\.51\.100\.52 now.*\n198\.51\.100\.2 can be another host's in ten minutes/,
  );
  expect(await Promise.all(KINDS.map(expose(h2)))).toEqual(before);
  await expectWhole();
  expect((await h2.status()).address).toBe("198.51.100.52");
});

test("the controller's host takes another address, and the controller with it", async () => {
  await moved(h1, "198.51.100.1", "198.51.100.51");
  await eventually(30_000, "the word of it", async () =>
    expect(await refusal(h1.statusText())).toMatch(/198\.51\.100\.1 is on none of its/),
  );
  expect(await h1.overlay("node", "readdress")).toMatch(/new hosts join at 198\.51\.100\.51/);
  await expectWhole();
  await eventually(30_000, "the controller's answer", () => h2.overlay("network", "create", "new"));
  // No failure either.
  await eventually(30_000, "the controller without a failure", async () =>
    expect((await h2.status()).controller).toEqual({ address: "198.51.100.51", port: 7952 }),
  );
});

test("a host whose MTU and routes change: the cluster's state follows, and new networks heed it", async () => {
  const made = (...options: string[]): Promise<string> =>
    h1.overlay("network", "create", ...options);
  const route = ["route", "add", "10.77.0.0/16", "via", "198.51.100.3"];
  await h2.exec("ip", ...route);
  await h2.exec("ip", "link", "set", "eth0", "mtu", "1400");
  await eventually(30_000, "the word of it", async () => {
    const { tooLarge, problems } = await h2.status();
    expect(tooLarge.map(({ name }) => name)).toContain("none");
    expect(problems?.map(({ message }) => message).join()).toMatch(/MTU of 1400.*none needs 1500/);
  });
  expect(await refusal(made("vpn", "--subnet", "10.77.1.0/24"))).toMatch(/which host h2 uses/);
  await made("less");
  expect(await h1.overlay("network", "ls")).toMatch(/^less .* 1350 /m);
  await h2.exec("ip", "link", "set", "eth0", "mtu", "1500");
  await eventually(30_000, "nothing to say", async () => {
    const { tooLarge, problems } = await h2.status();
    expect([tooLarge, problems]).toEqual([[], []]);
  });
  await made("more");
  expect(await h1.overlay("network", "ls")).toMatch(/^more .* 1450 /m);
  await expectWhole();
});

// Under ESP the same is tried on kernels in memory (ipsec-changeover.test.ts): this machine's may have none.
test("both addresses are there: the host changes over without a packet lost; another's is refused", async () => {
  // In a prefix of its own: with the one of before the kernel would take away all that are in its prefix.
  await h2.exec("ip", "address", "add", "198.51.100.62/32", "dev", "eth0");
  expect(await refusal(h2.overlay("node", "readdress"))).toMatch(/several addresses/);
  const to = (address: string): string[] => ["node", "readdress", "--advertise-addr", address];
  expect(await refusal(h2.overlay(...to("198.51.100.3")))).toMatch(/is no address of this host/);
  // What it sends still has the other one as its source.
  expect(await refusal(h2.overlay(...to("198.51.100.62")))).toMatch(
    /came from 198\.51\.100\.52, not from 198\.51\.100\.62/,
  );
  await h2.exec("ip", "route", "replace", "198.51.100.0/24", "dev", "eth0", "src", "198.51.100.62");
  const none = Object.fromEntries(["h1", "h3"].flatMap((h) => KINDS.map((k) => [`${h} ${k}`, 0])));
  expect(
    await lostDuringAll(async () => {
      await h2.overlay(...to("198.51.100.62"));
      await expectWhole();
    }),
  ).toEqual(none);
  // The command has ended: nothing leaves from the address of before any more, and nobody sends there.
  expect(
    await lostDuringAll(async () => {
      await h2.exec("ip", "address", "del", "198.51.100.52/24", "dev", "eth0");
      await expectWhole();
    }),
  ).toEqual(none);
});

const VXLAN_GONE = `for n in /run/overlay-ts/netns/*; do
  for l in $(nsenter --net=$n ip -o link show type vxlan | cut -d: -f2 | cut -d@ -f1); do nsenter --net=$n ip link del $l; done
done`;

test("a program that has VXLAN's port is named by status, with what to do, until it ends", async () => {
  await h3.stopService("agent", "KILL");
  await h3.exec("sh", "-ec", VXLAN_GONE);
  const taker = `exec node -e 'dgram.createSocket("udp4").bind(7948)' </dev/null >/dev/null 2>&1`;
  const pid = (await h3.exec("sh", "-c", `(${taker}) & echo $!`)).trim();
  try {
    await eventually(30_000, "the program", async () =>
      expect(await h3.exec("ss", "-Huln", "sport", "=", ":7948")).not.toBe(""),
    );
    startAgent(h3, false);
    // Of the device that could not be set up, and of the one that waits: node names its threads.
    const says = `UDP port 7948, which VXLAN needs, is taken by \\S+ \\(process ${pid}\\)`;
    await eventually(30_000, "the word of it", async () => {
      const text = await h3.statusText();
      expect(text).toMatch(new RegExp(`^data path: ${says}\n  → end it, or give it another`, "m"));
      expect(text).toMatch(new RegExp(`^kernel: .*${says}$`, "m"));
    });
    await eventually(30_000, "the event", async () =>
      expect(await h3.overlay("events")).toMatch(new RegExp(says)),
    );
  } finally {
    await h3.exec("kill", pid);
  }
  await expectWhole();
  await eventually(30_000, "no problem", async () =>
    expect((await h3.status()).problems).toEqual([]),
  );
});

test("a host whose address went can leave, and nothing of it stays", async () => {
  await moved(h3, "198.51.100.3", "198.51.100.53");
  await eventually(30_000, "the word of it", async () =>
    expect(await refusal(h3.statusText())).toMatch(/198\.51\.100\.3 is on none of its/),
  );
  expect(await h3.overlay("leave")).toMatch(/This host has left/);
  expect(await h3.exec("ls", "/run/overlay-ts/netns")).toBe("");
  expect(await h3.exec("nft", "list", "tables")).not.toContain("overlay_ts");
  await eventually(30_000, "its state", async () =>
    expect(await h3.statusText()).toMatch(/not joined/),
  );
});
