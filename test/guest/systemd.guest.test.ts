import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { busyboxImage } from "../support/image.ts";
import type { Asked } from "./asking.ts";
import { Guest } from "./guest.ts";

/**
 * One host as its owner has it: systemd, Debian's engine started by its own unit, overlay-ts
 * installed by the README. What happens to such a host happens here in one life of it, in order.
 */
describe("a host with systemd", { timeout: 1_800_000 }, () => {
  const repository = join(import.meta.dirname, "../..");
  let guest: Guest;

  /** An agent, or a command, takes twenty times as long here as on a host. */
  const PATIENCE = "OVERLAY_TS_PATIENCE_MS=600000";
  const exec = (script: string): Promise<string> => guest.exec(`export ${PATIENCE}; ${script}`);
  const agentPid = (): Promise<string> =>
    exec("systemctl show --property MainPID --value overlay-ts-agent");
  const until = (condition: string): Promise<string> =>
    exec(`for i in $(seq 500); do if ${condition}; then exit 0; fi; sleep 1; done; ${condition}`);
  const verified = async (): Promise<void> => {
    expect(await until("overlay-ts verify")).toContain("kernel, Docker and tables agree");
  };

  /** What a program prints goes to `/tmp/<name>`. It goes on while engine and agent are away. */
  const inContainerOne = (name: string, program: string): Promise<string> =>
    exec(
      "nsenter --net=/proc/$(docker inspect --format '{{.State.Pid}}' one)/ns/net " +
        `${program} >/tmp/${name} 2>&1 & echo $! >/tmp/${name}.pid`,
    );
  const end = (name: string, signal: string): Promise<string> =>
    exec(
      `kill -${signal} $(cat /tmp/${name}.pid); while [ -e /proc/$(cat /tmp/${name}.pid) ]; do sleep 0.1; done`,
    );
  const node = (program: string): string =>
    `env NODE_COMPILE_CACHE=/tmp/compiled ${repository}/node_modules/.bin/node ` +
    `--disable-warning=ExperimentalWarning ${repository}/test/guest/${program}`;
  /** Milliseconds since 1970, in the guest. */
  const now = async (): Promise<number> => Number(await exec("date +%s%3N"));
  /** Two sockets of each container on a network. */
  const keptSockets = (): Promise<string> =>
    exec("systemctl show --property NFileDescriptorStore --value overlay-ts-agent");

  /**
   * From one container to another, five packets a second from before it until after it; and its
   * questions for the other's name, and for one outside.
   */
  async function losesNothing(
    disturb: () => Promise<unknown>,
  ): Promise<{ readonly two: Asked; readonly outside: Asked }> {
    await inContainerOne("ping", "/bin/busybox ping -i 0.2 10.77.0.12");
    await inContainerOne("asked", node("asking.ts 100 two=10.77.0.12 outside=192.0.2.7"));
    await until("grep -q seq= /tmp/ping");
    await until("grep -qx 'two us' /tmp/asked && grep -qx 'outside Docker' /tmp/asked");
    await disturb();
    await end("ping", "INT");
    await end("asked", "TERM");
    const said = await exec("tail -3 /tmp/ping");
    const [, sent, received] = /(\d+) packets transmitted, (\d+) packets received/.exec(said) ?? [];
    expect(Number(sent), said).toBeGreaterThan(5);
    // The last may be on its way when the count is made.
    expect(Number(sent) - Number(received), said).toBeLessThanOrEqual(1);
    return JSON.parse(await exec("tail -1 /tmp/asked")) as { two: Asked; outside: Asked };
  }

  /**
   * Every question was answered. That for the other container perhaps by Docker, which knows it too: in
   * a machine this slow our own server is now and then taken for one that hangs.
   */
  function expectAllAnswered({ two, outside }: { readonly two: Asked; readonly outside: Asked }) {
    expect(two.failures).toEqual([]);
    expect(outside).toMatchObject({ failures: [], byUs: 0 });
  }

  /** No question that was asked later than that failed. */
  function expectAnsweredFrom(atMs: number, { failures }: Asked) {
    expect(failures.filter((failure) => failure.atMs > atMs)).toEqual([]);
  }

  beforeAll(async () => {
    guest = await Guest.start(busyboxImage);
    await until("systemctl is-active -q docker");
  }, 1_200_000);

  afterAll(async () => {
    await guest?.stop();
  }, 60_000);

  // Each step stands on those before it; of the first that fails the journal is shown.
  let broken = false;
  beforeEach(({ skip }) => skip(broken, "an earlier step failed"));
  afterEach(async ({ task }) => {
    if (broken || task.result?.state !== "fail") return;
    broken = true;
    // What a step waited for is asked again and again, which Docker logs each time.
    const journal =
      "journalctl --no-pager -b -u 'overlay-ts*' -u docker | grep -v 'setting up exec' | tail -150 | cut -c-300";
    console.error((await guest.try(`docker ps -a; ${journal}`)).output);
  });

  test("is installed, makes a cluster and a network, and its containers reach each other", async () => {
    const settings = "/etc/systemd/system/overlay-ts-agent.service.d";
    await exec(
      `mkdir -p ${settings}; printf '[Service]\\nEnvironment=${PATIENCE}\\nTimeoutStartSec=1200\\nTimeoutStopSec=600\\n' >${settings}/slow.conf`,
    );
    await exec(`systemd-run --unit outside ${node("outside.ts 198.51.100.1 192.0.2.7")}`);
    await exec(`cd ${repository} && deploy/install.sh --controller`);
    expect(
      await exec(
        "systemctl is-enabled overlay-ts-plugin.socket overlay-ts-agent overlay-ts-controller",
      ),
    ).toBe("enabled\nenabled\nenabled");
    expect(await exec("overlay-ts init --advertise-addr 198.51.100.1")).toContain(
      "overlay-ts join",
    );
    await exec(`docker import ${guest.directory}/image.tar box`);
    await exec("docker network create -d overlay-ts --attachable --subnet 10.77.0.0/24 app");
    for (const [name, ip] of [
      ["one", "10.77.0.11"],
      ["two", "10.77.0.12"],
    ])
      await exec(
        `docker run -d --restart always --stop-signal KILL --name ${name} --dns 198.51.100.1 --network app --ip ${ip} box /bin/sleep 1000000`,
      );
    await exec("docker network create own");
    await exec(
      "docker run -d --restart always --stop-signal KILL --name stays --network own box /bin/sleep 1000000",
    );
    await exec("docker network connect app stays");
    await exec("docker exec one /bin/ping -c 2 two");
    await exec("docker exec stays /bin/ping -c 2 two");
    expect(await keptSockets()).toBe("6");
    await verified();
    // A local user has no way to what root runs, and to no secret: the program and its units, what is kept
    // compiled, data, sockets. Where the kernel has such files, they are its own and cannot be written.
    const ours =
      "/usr/local/lib/overlay-ts /usr/local/bin/overlay-ts /etc/systemd/system/overlay-ts-* " +
      "/var/cache/overlay-ts /var/lib/overlay-ts /run/overlay-ts /run/docker/plugins/overlay-ts.sock";
    const open = "! -type l ( ! -uid 0 -o ! -gid 0 -o -perm /7022 )".replaceAll(/[()]/g, "\\$&");
    expect(await exec(`find ${ours} ${open}`)).toBe("");
    const secret = "( -type f -o -type s ) ! -fstype nsfs -perm /077".replaceAll(/[()]/g, "\\$&");
    expect(
      await exec(`find /var/lib/overlay-ts /run/overlay-ts /run/docker/plugins ${secret}`),
    ).toBe("");
    expect(await exec("stat -c %a /var/lib/overlay-ts /run/overlay-ts")).toBe("700\n711");
    // Of what runs, nobody opens a debugger, and nobody ends.
    await exec("systemctl kill --signal USR1 'overlay-ts-*.service'; sleep 1");
    expect(await exec("ss -Hltn sport = :9229")).toBe("");
    await exec("systemctl is-active overlay-ts-agent overlay-ts-controller");
  });

  test("a stopped agent is started by the container that needs it; no packet and no question is lost, Docker answers for names meanwhile", async () => {
    const { two, outside } = await losesNothing(async () => {
      await exec("systemctl stop overlay-ts-agent");
      expect(await keptSockets()).toBe("0");
      await until("[ \"$(grep ^two /tmp/asked | tail -1)\" = 'two Docker' ]");
      await exec("docker run --rm --network app box /bin/ping -c 1 10.77.0.11");
      await exec("systemctl is-active overlay-ts-agent");
      await until("[ \"$(grep ^two /tmp/asked | tail -1)\" = 'two us' ]");
    });
    expect(two.failures).toEqual([]);
    expect(outside.failures).toEqual([]);
    expect(await keptSockets()).toBe("6");
    await verified();
  });

  test("an agent that is killed is started again, and no packet and no question is lost", async () => {
    const before = await agentPid();
    const asked = await losesNothing(async () => {
      await exec(`kill -KILL ${before}`);
      await until(
        `[ "$(systemctl show -p MainPID --value overlay-ts-agent)" != ${before} ] && systemctl is-active -q overlay-ts-agent`,
      );
      await verified();
    });
    expectAllAnswered(asked);
    expect(await agentPid()).not.toBe(before);
  });

  test("an agent that hangs is ended by the watchdog; a container that starts meanwhile waits for the next", async () => {
    const before = await agentPid();
    let backMs = 0;
    const { two, outside } = await losesNothing(async () => {
      await exec(`kill -STOP ${before}`);
      await exec("docker run --rm --network app box /bin/ping -c 1 10.77.0.11");
      backMs = await now();
      await verified();
    });
    expectAnsweredFrom(backMs, two);
    expectAnsweredFrom(backMs, outside);
    expect(two.last).toBe("us");
    expect(await agentPid()).not.toBe(before);
    expect(await exec("journalctl -u overlay-ts-agent --no-pager")).toContain("Watchdog timeout");
    await verified();
  });

  test("an upgrade loses no packet and no question", async () => {
    const before = await agentPid();
    const asked = await losesNothing(async () => {
      await exec(`cd ${repository} && deploy/install.sh`);
      await verified();
    });
    expectAllAnswered(asked);
    expect(await agentPid()).not.toBe(before);
  });

  test("containers come back with their addresses when the engine is restarted", async () => {
    await exec("systemctl restart docker");
    await until("docker exec one /bin/ping -c 1 -W 2 10.77.0.12");
    await verified();
  });

  test("and when the host is", async () => {
    await guest.reboot();
    await until("docker exec one /bin/ping -c 1 -W 2 10.77.0.12");
    expect(await exec("docker exec one /bin/ip -4 -o address show")).toContain("10.77.0.11/24");
    await until("docker exec one /bin/ping -c 1 two");
    await verified();
    expect(await keptSockets()).toBe("6");
  });

  test("WireGuard in a process is not cut by the agent's restart, and comes back when it ends", async () => {
    const unit = "overlay-ts-wireguard@ovwg0";
    const pid = (): Promise<string> => exec(`systemctl show --property MainPID --value ${unit}`);
    const answers =
      "printf 'get=1\\n\\n' | socat - UNIX-CONNECT:/run/wireguard/ovwg0.sock | grep errno=0";
    await exec(`systemctl start ${unit}`);
    await until(answers);
    const first = await pid();
    await exec("systemctl restart overlay-ts-agent");
    expect(await pid()).toBe(first);
    await exec(`kill -KILL ${first}`);
    await until(`[ "$(systemctl show -p MainPID --value ${unit})" != ${first} ] && ${answers}`);
    expect(await exec("stat --format %a /run/wireguard /run/wireguard/ovwg0.sock")).toBe(
      "700\n700",
    );
    await exec(`systemctl stop ${unit}`);
    expect(await exec("ip -o link show type tun")).toBe("");
  });

  test("is not taken from under its containers", async () => {
    const { status, output } = await guest.try(`cd ${repository} && deploy/uninstall.sh`);
    expect(status).toBe(1);
    expect(output).toContain("app one");
    expect(output).toContain("app two");
    await exec("docker exec one /bin/ping -c 1 10.77.0.12");
  });

  test("goes and leaves nothing but its membership, and with --purge not even that", async () => {
    await exec("docker rm -f one two");
    await exec("docker network disconnect app stays");
    expect(await keptSockets()).toBe("0");
    const stays = "$(docker inspect --format '{{.State.Pid}}' stays)";
    await until(`! nsenter --net=/proc/${stays}/ns/net nft list tables | grep overlay`);
    await exec("docker rm -f stays; docker network rm own");
    await exec(`cd ${repository} && deploy/uninstall.sh`);
    expect(await exec("ls /var/lib/overlay-ts/agent")).toContain("membership.json");
    await exec("rm -r /etc/systemd/system/overlay-ts-agent.service.d");
    await exec(`cd ${repository} && deploy/uninstall.sh --purge --force`);
    const left = [
      "find /etc /usr/local /var/lib /var/cache /run -name '*overlay-ts*'",
      "systemctl list-units --all --no-legend 'overlay-ts*'",
      "findmnt --noheadings --types nsfs --output TARGET | grep overlay || true",
      "lsns --noheadings --type net --output NSFS | grep overlay || true",
      "nft list tables | grep overlay || true",
      "ip -o link | grep -E ' (ov[cp]|docker_gwbridge)' || true",
      "docker network ls --format '{{.Name}}' | grep -vxE 'bridge|host|none' || true",
    ];
    for (const look of left) expect.soft(await exec(look), look).toBe("");
  });
});
