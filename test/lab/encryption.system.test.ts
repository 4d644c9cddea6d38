// @module-tag never

import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DEFAULT_PORTS } from "../../shared/cluster-state.ts";
import { captured, containing } from "../support/capture.ts";
import { ENGINE_KINDS } from "../support/engine-root.ts";
import { eventually, type LabHost, OVERLAY_TS } from "../support/lab-host.ts";
import { addressOf, endNetwork, OURS, pidOf, pings, refusal, SLEEP, start } from "./containers.ts";
import { Lab, startAgent } from "./lab.ts";
import { listed, listening } from "./listening.ts";
import { Pinging } from "./pinging.ts";

/**
 * Three hosts with real engines and agents, on a kernel that may have neither WireGuard nor ESP: then
 * wireguard-go runs the tunnels. Whatever crosses the switch at h1 is looked at.
 */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-encryption-test-"));
let lab: Lab;
let h1: LabHost;
let h2: LabHost;

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 3, docker: true, engines: ENGINE_KINDS, say: () => {} });
  [h1, h2] = lab.hosts as [LabHost, LabHost, LabHost];
  await lab.form(() => {});
  await h1.docker(...OURS, "plain");
  await h1.docker(...OURS, "-o", "encryption=wireguard", "secret");
  for (const host of lab.hosts)
    for (const network of ["plain", "secret"]) await host.waitForNetwork(network);
  for (const host of lab.hosts) {
    await start(host, `p-${host.name}`, "plain");
    await start(host, `s-${host.name}`, "secret");
  }
});

afterAll(() => Lab.down(directory));

const secret = (host: LabHost): Promise<string> => addressOf(host, `s-${host.name}`, "secret");
const plain = (host: LabHost): Promise<string> => addressOf(host, `p-${host.name}`, "plain");

/** Every container of the network answers every other one. */
async function whole(kind: "s" | "p" = "s", hosts: readonly LabHost[] = lab.hosts): Promise<void> {
  const of = kind === "s" ? secret : plain;
  for (const from of hosts)
    for (const to of hosts) {
      const address = await of(to);
      await eventually(60_000, `${from.name} to ${to.name}`, async () => {
        expect(await pings(from, `${kind}-${from.name}`, address)).toBe(3);
      });
    }
}

/** A text in a UDP datagram from a container of h1 to one of h2. */
async function tell(kind: "s" | "p", text: string): Promise<void> {
  const to = await (kind === "s" ? secret : plain)(h2);
  const pid = await pidOf(h1, `${kind}-h1`);
  const script = `echo ${text} >/dev/udp/${to}/9999`;
  // Where there is no path this fails, sooner or later.
  await h1.exec("nsenter", `--net=/proc/${pid}/ns/net`, "bash", "-c", script).catch(() => {});
}

interface Seen {
  readonly frames: readonly Buffer[];
  /** Datagrams to or from the ports of VXLAN, whatever is in them. */
  readonly clearOfClass: number;
  readonly tunnelled: number;
}

/** UDP in IPv4 without options. */
function toPort(frame: Buffer, port: number): boolean {
  const isUdp = frame.readUInt16BE(12) === 0x0800 && frame[23] === 17;
  return isUdp && frame.readUInt16BE(36) === port;
}

async function watched(work: (soFar: () => Buffer[]) => Promise<unknown>): Promise<Seen> {
  const frames = await captured(directory, 1, work);
  return {
    frames,
    clearOfClass: frames.filter((frame) => toPort(frame, DEFAULT_PORTS.vxlanWireguard)).length,
    tunnelled: frames.filter((frame) => toPort(frame, DEFAULT_PORTS.wireguard)).length,
  };
}

/** The marker crosses the plain network where we look, so that what is not seen was not there. */
async function nothingInClear(work: (marker: string) => Promise<unknown>) {
  const marker = randomBytes(16).toString("hex");
  const control = randomBytes(16).toString("hex");
  const seen = await watched(async (soFar) => {
    await work(marker);
    await eventually(20_000, "the control", async () => {
      await tell("p", control);
      expect(containing(soFar(), Buffer.from(control))).toBeGreaterThan(0);
    });
  });
  expect(containing(seen.frames, Buffer.from(marker))).toBe(0);
  expect(seen.clearOfClass).toBe(0);
  return seen;
}

test("CVE-2023-28841: containers reach each other at full size, by name, and nothing of it is in clear", async () => {
  await whole();
  const { tunnelled } = await nothingInClear(async (marker) => {
    for (let i = 0; i < 5; i++) await tell("s", marker);
    // 1390 less the headers of IP and ICMP; the kernel may not cut it.
    const full = ["exec", "s-h1", "/bin/ping", "-c", "3", "-s", "1362", "s-h3.secret"];
    // A name is said a moment after its container answers.
    await eventually(20_000, "full size by name", async () =>
      expect(await h1.docker(...full)).toContain("3 packets received"),
    );
  });
  expect(tunnelled).toBeGreaterThan(5);
  const format = '{{index .Options "com.docker.network.driver.mtu"}}';
  expect(await h1.docker("network", "inspect", "-f", format, "secret")).not.toContain("1450");
});

test("plain networks go on beside it, in clear", async () => {
  await whole("p");
});

test("an agent that is killed, and one that is started again, lose no packet", async () => {
  const pinging = await Pinging.start(h1, "s-h1", await secret(h2));
  await nothingInClear(async (marker) => {
    for (const host of [h1, h2]) {
      await host.stopService("agent", "KILL");
      await tell("s", marker);
      startAgent(host, true);
      await eventually(60_000, "the agent", () => host.agrees());
      await tell("s", marker);
    }
  });
  const { sent, lost } = await pinging.stop();
  expect(lost).toEqual([]);
  expect(sent).toBeGreaterThanOrEqual(20);
});

test("without its process traffic stops, nothing leaves in clear, and it comes back", async () => {
  await nothingInClear(async (marker) => {
    const find =
      'for f in /proc/[0-9]*; do grep -qs "^wireguard-go" $f/cmdline && basename $f; done; true';
    const pids = (await h1.exec("sh", "-c", find)).split("\n").filter(Boolean);
    // A kernel that has WireGuard needs none.
    const { wireguard } = (await h1.status()).encryption;
    expect(pids).toHaveLength(wireguard?.by === "kernel" ? 0 : 1);
    for (const pid of pids) await h1.exec("kill", "-KILL", pid);
    for (let i = 0; i < 3; i++) await tell("s", marker);
    await whole();
  });
});

test("a tunnel that is closed on the way is said to be, and takes the names of its own networks only", async () => {
  const stateOfH2 = async (network: string): Promise<string | undefined> => {
    const said = await h1.overlay("names", network, "--json");
    const [{ names }] = JSON.parse(said) as [{ names: { host: string; state: string }[] }];
    return names.find(({ host }) => host === "h2")?.state;
  };
  const port = DEFAULT_PORTS.wireguard;
  const close = `nft 'table inet closed { chain in { type filter hook input priority -400; udp dport ${port} drop; }; }'`;
  await h2.exec("sh", "-c", close);
  try {
    await eventually(60_000, "the names' end", async () =>
      expect(await stateOfH2("secret")).toBe("unreachable"),
    );
    // It stays closed: what holds of it at last holds, and a late answer of another host is no finding.
    await eventually(60_000, "h2 silent through the tunnel alone", async () => {
      expect(await stateOfH2("plain")).toBe("in");
      const { encryption, dataPath, problems = [] } = await h1.status();
      const paths = encryption.wireguard?.peers.map(({ name, path, why }) => [name, path, why]);
      expect(paths).toEqual([
        ["h2", false, "silent"],
        ["h3", true, undefined],
      ]);
      expect(dataPath.filter(({ roundTripMs }) => roundTripMs === undefined)).toEqual([]);
      expect(problems).toContainEqual(
        expect.objectContaining({
          what: "wireguard",
          message: expect.stringMatching(/^no answer through WireGuard from h2,/),
        }),
      );
    });
    await eventually(60_000, "the same of the command", async () => {
      const probed = await refusal(h1.overlay("probe"));
      expect(probed).toMatch(/^h2 +none .* ms/m);
      expect(probed).toMatch(/^h2 +wireguard .*NO ANSWER/m);
      expect(probed).toMatch(/^h3 +wireguard .* ms/m);
    });
  } finally {
    await h2.exec("nft", "delete", "table", "inet", "closed");
  }
  await eventually(60_000, "the names again", async () =>
    expect(await stateOfH2("secret")).toBe("in"),
  );
  await whole();
});

test.each([
  ["guards that somebody flushes are put back", ["nft", "flush", "ruleset"]],
  [
    "guards in the transport namespace too",
    ["nsenter", "--net=/run/overlay-ts/netns/wireguard", "nft", "flush", "ruleset"],
  ],
  [
    "a device that somebody deletes is made again",
    ["nsenter", "--net=/run/overlay-ts/netns/wireguard", "ip", "link", "delete", "ovwg0"],
  ],
  [
    "the route to the other hosts inside the tunnel is put back",
    ["nsenter", "--net=/run/overlay-ts/netns/wireguard", "ip", "route", "del", "198.19.0.0/16"],
  ],
])("%s; nothing leaves in clear", async (_, command) => {
  await nothingInClear(async (marker) => {
    await h1.exec(...command);
    for (let i = 0; i < 3; i++) await tell("s", marker);
    await eventually(60_000, "agreement", () => h1.agrees());
    await whole();
  });
});

test("a host without WireGuard refuses its containers with the reason; the others go on", async () => {
  // As on a host where neither is installed.
  await h1.docker(...OURS, "-o", "encryption=ipsec", "esp");
  await h1.waitForNetwork("esp");
  const refused = await refusal(
    h1.docker("run", "-d", "--name", "esp-1", "--network", "esp", ...SLEEP),
  );
  expect(refused).toMatch(/network esp is encrypted \(ipsec\), and this host cannot: /);
  await h1.docker("rm", "-f", "esp-1").catch(() => {});
  await whole();
  await endNetwork(h1, "esp");
});

test("kinds that there are not, and options that contradict, are refused", async () => {
  const make = (...options: string[]): Promise<string> =>
    refusal(h1.docker(...OURS, ...options.flatMap((option) => ["-o", option]), "wrong"));
  expect(await make("encryption=rot13")).toMatch(/rot13 is not one of none, wireguard, ipsec/);
  expect(await make("encryption=wireguard", "mtu=1450")).toMatch(/576 to 1390/);
});

test("a network's gossip key is changed; what is said of it afterwards is heard", async () => {
  expect(await h1.overlay("key", "rotate", "--network", "secret")).toContain("secret");
  const address = await start(h2, "late", "secret");
  await eventually(60_000, "the late container", async () => {
    expect(await pings(h1, "s-h1", address)).toBe(3);
  });
  await h2.docker("rm", "-f", "late");
  const before = (await h1.status()).encryption.wireguard?.publicKey;
  const pinging = await Pinging.start(h1, "s-h1", await addressOf(h2, "s-h2", "secret"));
  const rotatedMs = Date.now();
  expect(await h1.overlay("key", "rotate")).toMatch(/this host gets a new WireGuard key/);
  await eventually(60_000, "sessions of another key", async () => {
    const { peers = [], publicKey } = (await h1.status()).encryption.wireguard ?? {};
    expect(publicKey).not.toBe(before);
    const since = (Date.now() - rotatedMs) / 1000;
    expect(
      peers.map(({ path, handshakeSecondsAgo }) => [path, handshakeSecondsAgo! <= since]),
    ).toEqual([
      [true, true],
      [true, true],
    ]);
  });
  const { sent, lost } = await pinging.stop();
  expect(sent).toBeGreaterThanOrEqual(20);
  expect(lost).toEqual([]);
  expect(await refusal(h1.overlay("key", "rotate", "--network", "none"))).toMatch(
    /no network none/,
  );
  expect(await refusal(h1.overlay("key", "rotate", "--node", "h9"))).toMatch(/no host h9/);
});

test("status and inspect say who runs the tunnel, and which hosts it reaches", async () => {
  const { encryption } = await h1.status();
  expect(encryption.wireguard).toMatchObject({ inside: "198.19.0.1" });
  expect(encryption.wireguard?.failure).toBeUndefined();
  await eventually(60_000, "both paths", async () => {
    const inspected = JSON.parse(await h1.overlay("network", "inspect", "secret")) as {
      encryption: string;
      paths: { name: string; path: boolean; handshakeSecondsAgo?: number }[];
    };
    expect(inspected.encryption).toBe("wireguard");
    expect(new Map(inspected.paths.map(({ name, path }) => [name, path]))).toEqual(
      new Map([
        ["h2", true],
        ["h3", true],
      ]),
    );
    for (const { handshakeSecondsAgo } of inspected.paths)
      expect(handshakeSecondsAgo).toBeDefined();
    expect(await h1.statusText()).toMatch(/^WIREGUARD +PATH +HANDSHAKE +ENDPOINT\nh2 +yes/m);
  });
});

test("a private key is in no log, argument, error or answer, and its file is root's alone", async () => {
  for (const host of lab.hosts) {
    const file = join(host.directory, "data/agent/wireguard.key");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const bytes = Buffer.from(readFileSync(file, "utf8").trim(), "base64url");
    const shapes = [bytes.toString("base64url"), bytes.toString("base64"), bytes.toString("hex")];
    const said = [
      host.log("agent"),
      await host.statusText("--json"),
      await host.overlay("network", "inspect", "secret"),
      await host.exec(
        "sh",
        "-c",
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; true",
      ),
    ].join("\n");
    for (const shape of shapes) expect(said.includes(shape.replace(/=+$/, ""))).toBe(false);
    // Sockets cannot be read, which it says. A key may begin with a hyphen.
    const search = 'grep -rlsF -e "$1" /run/overlay-ts "$2" || true';
    const data = join(host.directory, "data");
    const found = await host.exec("sh", "-c", search, "sh", shapes[0]!, data);
    const holders = found.split("\n").filter(Boolean);
    expect(holders).toEqual([file]);
  }
});

test("what listens on a host is what README.md says, and its unix sockets are root's alone", async () => {
  const table = listed(readFileSync(join(import.meta.dirname, "../../README.md"), "utf8"));
  // By what the kernel has: neither ESP nor WireGuard, one of them, or both.
  const perhaps = ["ESP", "7950/udp", "/run/wireguard/ovwg0.sock"];
  const controllers = ["7952/tcp", "/run/overlay-ts/controller.sock"];
  for (const host of lab.hosts) {
    const found = await listening(host);
    const wanted = host === h1 ? table : table.filter((what) => !controllers.includes(what));
    const certain = (list: readonly string[]) => list.filter((what) => !perhaps.includes(what));
    expect(certain(found)).toEqual(certain(wanted).toSorted());
    expect(found.filter((what) => !table.includes(what))).toEqual([]);
    const sockets = found.filter((what) => what.startsWith("/"));
    for (const path of sockets) {
      expect(await host.exec("stat", "-c", "%F %a %u:%g", path)).toMatch(/^socket [67]00 0:0\n$/);
      // Nobody else can put another in its place.
      expect(await host.exec("find", dirname(path), "-prune", "-perm", "/022")).toBe("");
    }
    const addresses = (await host.exec("ss", "-Hltn")).matchAll(/(\S+):(?:7947|7952) /g);
    const [own, ...others] = new Set([...addresses].map(([, address]) => address));
    expect([own, others]).toEqual([`198.51.100.${host.name.slice(1)}`, []]);
  }
});

test("every file and socket that we keep is root's alone", async () => {
  for (const host of lab.hosts) {
    const places = [join(host.directory, "data"), "/run/overlay-ts"];
    // What pins a namespace shows the kernel's own file, whose mode is not ours to choose.
    const kept = ["(", "-type", "f", "-o", "-type", "s", ")", "!", "-fstype", "nsfs"];
    const found = async (...which: string[]): Promise<string[]> => {
      const text = await host.exec("find", ...places, "-ignore_readdir_race", ...kept, ...which);
      return text.split("\n").filter(Boolean);
    };
    const control = [join(places[0]!, "agent/identity.key"), "/run/overlay-ts/agent.sock"];
    expect(await found()).toEqual(expect.arrayContaining(control));
    expect(await found("(", "-perm", "/077", "-o", "!", "-uid", "0", ")")).toEqual([]);
  }
});

test("SIGUSR1 opens no debugger and ends nobody: services, a command, the tunnels' processes", async () => {
  const follows = h1.service("events", OVERLAY_TS, "events", "--since", "1h", "-f");
  await eventually(20_000, "events", async () => expect(h1.log("events")).not.toBe(""));
  // Known to open one: by then the others would have done so too.
  const open = 'exec unshare --net "$0" -e "setInterval(() => {}, 1000)" control';
  const control = h1.service("control", "sh", "-c", open, process.execPath);
  const ours = `for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline 2>/dev/null) in */[s]tart.[tj]s*|[w]ireguard-go*|*[n]ode*control*) echo \${p#/proc/};; esac; done`;
  const running = async (host: LabHost) =>
    (await host.exec("bash", "-c", ours)).split("\n").filter(Boolean);
  await eventually(20_000, "all of them", async () => expect(await running(h1)).toHaveLength(5));
  for (const host of lab.hosts) {
    const before = await running(host);
    expect(before.length).toBeGreaterThanOrEqual(2);
    await host.exec("kill", "-USR1", ...before);
    if (host === h1)
      await eventually(20_000, "the control's debugger", async () =>
        expect(h1.log("control")).toMatch(/Debugger listening on ws:..127\.0\.0\.1:9229/),
      );
    expect(await host.exec("ss", "-Hltn", "sport = :9229")).toBe("");
    expect(await running(host)).toEqual(before);
    await host.statusText();
  }
  follows.kill();
  control.kill();
  await whole();
});

test("a container that comes and goes while it is watched, ten times", async () => {
  await nothingInClear(async (marker) => {
    for (let i = 0; i < 10; i++) {
      // Its first word is the name of a file, in a datagram.
      const script = `timeout 1 tftp -g -r ${marker} ${await secret(h2)} 9999; true`;
      const run = ["run", "--rm", "--network", "secret", SLEEP[0]!, "/bin/sh", "-c", script];
      await h1.docker(...run);
    }
  });
});

test("a host that is removed is out of the tunnel at once, and what is sent to it is not in clear", async () => {
  const h3 = lab.host("h3");
  const address = await secret(h3);
  await nothingInClear(async (marker) => {
    await h1.overlay("node", "rm", "h3");
    for (const host of [h1, h2])
      await eventually(60_000, "a tunnel without it", async () => {
        const { wireguard } = (await host.status()).encryption;
        expect(wireguard?.peers.map(({ name }) => name)).not.toContain("h3");
      });
    await tell("s", marker);
    // Peers are of the tables: the device has them until its next pass.
    await eventually(20_000, "silence", async () => {
      expect(await pings(h1, "s-h1", address)).toBe(0);
      expect(await pings(h3, "s-h3", await secret(h1))).toBe(0);
    });
  });
  await whole("s", [h1, h2]);
});

test("when its last network ends nothing is left of it", async () => {
  const members = [h1, h2];
  for (const host of members) await host.docker("rm", "-f", `s-${host.name}`);
  await endNetwork(h2, "secret");
  for (const host of members) {
    await eventually(60_000, "the end of the tunnel", async () => {
      expect(existsSync(host.path("/run/overlay-ts/netns/wireguard"))).toBe(false);
      expect(await host.exec("ls", "/run/wireguard").catch(() => "")).toBe("");
    });
    await eventually(60_000, "agreement", () => host.agrees());
  }
  await whole("p", members);
});
