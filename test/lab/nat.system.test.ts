import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { addressOf, OURS, pings, refusal, SLEEP, start } from "./containers.ts";
import { Lab, startAgent } from "./lab.ts";

/**
 * h2 behind NAT: its own address is one that h1 has no route to, what it sends comes from the NAT's
 * address and other ports, and what nobody asked for does not come in.
 */

const INNER = "192.0.2.7";
const OUTER = "198.51.100.2";
const NAT = `
table ip nat {
  chain out {
    type nat hook postrouting priority 100
    oifname "eth0" udp sport 7951 masquerade to :40000
    oifname "eth0" ip saddr ${INNER} snat to ${OUTER}
  }
  chain in {
    type filter hook input priority 0
    iifname "eth0" ip protocol { tcp, udp } ct state new drop
  }
}`;

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-nat-test-"));
let lab: Lab;
let h1: LabHost;
let h2: LabHost;

beforeAll(async () => {
  const engines = ["20.10", "26.1"] as const;
  lab = await Lab.up({ directory, hosts: 2, docker: true, engines, say: () => {} });
  [h1, h2] = lab.hosts as [LabHost, LabHost];
  await h2.exec("sh", "-c", `ip address add ${INNER}/32 dev eth0; nft -f - <<'EOF'${NAT}\nEOF`);
  const made = await h1.overlay("init", "--json", "--advertise-addr", "198.51.100.1");
  const { token } = JSON.parse(made) as { token: string };
  const away = ["--advertise-addr", "203.0.113.9"];
  expect(await refusal(h2.overlay("join", "--token", token, ...away, "198.51.100.1"))).toMatch(
    /203\.0\.113\.9 is no address of this host.*\n.*behind NAT.*--listen-addr/s,
  );
  const inner = ["--listen-addr", INNER];
  expect(await refusal(h2.overlay("join", "--token", token, ...inner, "198.51.100.1"))).toMatch(
    /--listen-addr is for a host behind NAT/,
  );
  const both = ["--advertise-addr", OUTER, ...inner];
  await h2.overlay("join", "--token", token, ...both, "198.51.100.1");
});

afterAll(() => Lab.down(directory));

async function whole(): Promise<void> {
  const [one, two] = [await addressOf(h1, "one", "secret"), await addressOf(h2, "two", "secret")];
  await eventually(60_000, "h1 to h2", async () => expect(await pings(h1, "one", two)).toBe(3));
  await eventually(60_000, "h2 to h1", async () => expect(await pings(h2, "two", one)).toBe(3));
}

test("WireGuard reaches through: the host behind NAT dials out, and is heard from there", async () => {
  await h1.docker(...OURS, "-o", "encryption=wireguard", "secret");
  await h2.waitForNetwork("secret");
  await start(h1, "one", "secret");
  await start(h2, "two", "secret");
  await whole();
  expect(await endpointOfH2()).toBe(`${OUTER} 40000`);
  await eventually(20_000, "the other by its name", async () =>
    expect(await h1.docker("exec", "one", "/bin/ping", "-c", "1", "two")).toContain(
      "1 packets rec",
    ),
  );
});

const endpointOfH2 = async (): Promise<string | undefined> => {
  const { encryption } = await h1.status();
  return encryption.wireguard?.peers[0]?.endpoint;
};

test("it goes on when the agents start again", async () => {
  for (const host of [h1, h2]) {
    await host.stopService("agent", "KILL");
    startAgent(host, true);
    await eventually(60_000, "the agent", () => host.agrees());
  }
  expect(await endpointOfH2()).toBe(`${OUTER} 40000`);
  await whole();
});

test("the NAT gives the flow another port: it goes on from there", async () => {
  await h2.exec("nft", "flush", "chain", "ip", "nat", "out");
  const rule = 'oifname "eth0" udp sport 7951 masquerade to :41000';
  await h2.exec("nft", "add", "rule", "ip", "nat", "out", ...rule.split(" "));
  // What is masqueraded is forgotten with its link (net/netfilter/nf_nat_masquerade.c).
  await h2.exec("sh", "-c", "ip link set eth0 down && ip link set eth0 up");
  await whole();
  expect(await endpointOfH2()).toBe(`${OUTER} 41000`);
});

test("other networks are refused there, with the reason and what to do", async () => {
  await h1.docker(...OURS, "clear");
  await h2.waitForNetwork("clear");
  await start(h1, "c-one", "clear");
  expect(await refusal(h2.docker("run", "-d", "--network", "clear", ...SLEEP))).toMatch(
    /network clear cannot reach this host, which is behind NAT.*encryption=wireguard/s,
  );
});
