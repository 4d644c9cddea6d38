import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makePackage, MOST_BYTES } from "../../deploy/package/main.ts";
import { elfMachine, hasSymbols, isElf } from "../../deploy/package/strip-elf.ts";
import { filesBelow, MACHINES, type Machine } from "../../deploy/package/tree.ts";
import { VERSION } from "../../shared/version.ts";

/** The packages: what is in them, that they are made again alike, and the life of one on a Debian. */

const ROOT = join(import.meta.dirname, "../..");
const directory = mkdtempSync("/var/tmp/overlay-ts-package-test-");
const debOf = (made: string, machine: Machine): string =>
  join(directory, made, `overlay-ts_${VERSION}_${machine}.deb`);
const amd64 = debOf("whole", "amd64");
const run = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { encoding: "utf8", maxBuffer: 1 << 26 });

beforeAll(async () => {
  process.env["SOURCE_DATE_EPOCH"] = "1800000000";
  // xz is a process of its own, and takes most of the time; the others are made meanwhile.
  const program = "--disable-warning=ExperimentalWarning";
  const whole = spawn(
    process.execPath,
    [program, join(ROOT, "deploy/package/main.ts"), join(directory, "whole"), "amd64"],
    { stdio: "inherit" },
  );
  const [[status]] = await Promise.all([
    once(whole, "exit"),
    (async () => {
      await makePackage(join(directory, "one"), "amd64", "none");
      await makePackage(join(directory, "one"), "arm64", "none");
    })(),
  ]);
  expect(status).toBe(0);
}, 600_000);

afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("made twice, by two processes in two places, a package has the same bytes", () => {
  for (const part of ["fsys", "ctrl"]) {
    const [one, two] = [debOf("one", "amd64"), amd64].map((deb) =>
      run("sh", "-c", `dpkg-deb --${part}-tarfile ${deb} | sha256sum`),
    );
    expect([part, one]).toEqual([part, two]);
  }
});

test("a package is small, and the archive has what it has", () => {
  const bytes = statSync(amd64).size;
  console.log(`overlay-ts_${VERSION}_amd64.deb: ${bytes} bytes`);
  expect(bytes).toBeLessThanOrEqual(MOST_BYTES);
  const archive = amd64.replace(/deb$/, "tar.xz");
  const names = (list: string): string[] => list.trim().split("\n").toSorted();
  expect(names(run("tar", "-tf", archive))).toEqual(
    names(run("sh", "-c", `dpkg-deb --fsys-tarfile ${amd64} | tar -t`)),
  );
});

test("lintian has nothing to say that is not argued in overrides", () => {
  const { status, stdout, stderr } = spawnSync(
    "lintian",
    ["--allow-root", "--fail-on", "error,warning", amd64],
    {
      encoding: "utf8",
    },
  );
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: "", stderr: "" });
});

test.each(["amd64", "arm64"] as const)(
  "%s: every binary is for that machine, and all is root's",
  (machine) => {
    const deb = debOf("one", machine);
    const tree = join(directory, `tree-${machine}`);
    run("dpkg-deb", "--extract", deb, tree);
    const files = filesBelow(tree);
    const binaries = files
      .map((path) => ({ path: path.slice(tree.length), bytes: readFileSync(path) }))
      .filter(({ bytes }) => isElf(bytes));
    const { npm, elf } = MACHINES[machine];
    const modules = "/usr/lib/overlay-ts/node_modules";
    expect(binaries.map(({ path }) => path)).toEqual([
      `${modules}/.bin/node`,
      `${modules}/@koromix/koffi-linux-${npm}/linux_${npm}/koffi.node`,
      `${modules}/netlink/prebuilds/linux-${npm}/node.napi.node`,
    ]);
    for (const { path, bytes } of binaries)
      expect([path, elfMachine(bytes), hasSymbols(bytes)]).toEqual([path, elf, false]);
    // What is not the machine's is the same in both.
    const others = files
      .map((path) => path.slice(tree.length))
      .filter(
        (path) =>
          !binaries.some((binary) => binary.path === path) && !path.includes("koffi-linux-"),
      );
    expect(others).toEqual(expect.arrayContaining(CONTENT));
    const open = run("dpkg-deb", "--contents", deb)
      .trim()
      .split("\n")
      .filter((line) => !/^(-rw-r--r--|-rwxr-xr-x|drwxr-xr-x|lrwxrwxrwx) root\/root /.test(line));
    expect(open).toEqual([]);
    // `tar -x` over a host's root would make a directory of the link that /lib is.
    expect(others.filter((path) => !/^\/(usr|etc)\//.test(path))).toEqual([]);
  },
);

const CONTENT = [
  "/etc/default/overlay-ts",
  "/usr/lib/NetworkManager/conf.d/10-overlay-ts.conf",
  "/usr/lib/overlay-ts/deploy/bundle/mesh-worker.js",
  "/usr/lib/overlay-ts/deploy/bundle/names-worker.js",
  "/usr/lib/overlay-ts/deploy/bundle/patience-worker.js",
  "/usr/lib/overlay-ts/deploy/bundle/start.js",
  "/usr/lib/overlay-ts/deploy/overlay-ts",
  "/usr/lib/overlay-ts/deploy/removal.sh",
  "/usr/lib/systemd/network/10-overlay-ts.network",
  "/usr/lib/systemd/system/overlay-ts-agent.service",
  "/usr/lib/systemd/system/overlay-ts-controller.service",
  "/usr/lib/systemd/system/overlay-ts-metrics.service",
  "/usr/lib/systemd/system/overlay-ts-metrics.timer",
  "/usr/lib/systemd/system/overlay-ts-plugin.socket",
  "/usr/lib/systemd/system/overlay-ts-wireguard@.service",
  "/usr/share/bash-completion/completions/overlay-ts",
  "/usr/share/doc/overlay-ts/changelog.gz",
  "/usr/share/doc/overlay-ts/copyright",
  "/usr/share/doc/overlay-ts/third-party.gz",
  "/usr/share/fish/vendor_completions.d/overlay-ts.fish",
  "/usr/share/man/man8/overlay-ts.8.gz",
  "/usr/share/zsh/vendor-completions/_overlay-ts",
];

describe("on Debian 13, in a root with systemctl and Docker of the test", () => {
  /** systemd's answers: what was started is active, what has a link is enabled. */
  const SYSTEMCTL = `#!/bin/sh
echo "systemctl $*" >>/asked
for unit; do :; done
case " $* " in
  *" is-enabled "*) for link in /etc/systemd/system/*.wants/$unit; do [ ! -L "$link" ] || { echo enabled; exit 0; }; done
    echo disabled; exit 1 ;;
  *" preset "*) wants=/etc/systemd/system/$(sed -n 's/^WantedBy=//p' "/usr/lib/systemd/system/$unit").wants
    mkdir -p "$wants" && ln -sf "/usr/lib/systemd/system/$unit" "$wants/$unit" ;;
  *" is-active "*) [ -e "/active-$unit" ] ;;
  *" stop "*) rm -f /active-* ;;
  *" start "* | *" restart "*) touch "/active-$unit" ;;
esac
`;
  const DOCKER = `#!/bin/sh
echo "docker $*" >>/asked
case $* in
  "network ls"*) echo app ;;
  "ps -a"*) [ ! -e /container ] || echo "app web" ;;
esac
`;
  /** Holds the root's mounts, and a network in which there is nothing. */
  const HOLD = `
    set -e
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/upper /mnt/work /mnt/root
    mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
    mkdir -p /mnt/root/run/systemd/system /mnt/root/packages
    mount --rbind /proc /mnt/root/proc
    mount --rbind /dev /mnt/root/dev
    mount --bind "$2" /mnt/root/packages
    rm -f /mnt/root/usr/sbin/policy-rc.d
    for program in systemctl docker; do cp "$2/$program" "/mnt/root/usr/bin/$program"; done
    chmod 755 /mnt/root/usr/bin/systemctl /mnt/root/usr/bin/docker
    echo ready
    exec sleep infinity`;
  let holder: ReturnType<typeof spawn>;

  /** In the root; what it asked systemctl for, beside what it said. */
  function inRoot(script: string) {
    const { status, stdout, stderr } = spawnSync(
      "nsenter",
      [
        `--target=${holder.pid}`,
        "--mount",
        "--net",
        "chroot",
        "/mnt/root",
        "sh",
        "-c",
        `: >/asked; ${script}`,
      ],
      {
        encoding: "utf8",
        env: {
          PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
          DEBIAN_FRONTEND: "noninteractive",
        },
      },
    );
    const asked = spawnSync(
      "nsenter",
      [`--target=${holder.pid}`, "--mount", "cat", "/mnt/root/asked"],
      { encoding: "utf8" },
    );
    const changes = asked.stdout
      .split("\n")
      .filter((line) => / (start|restart|stop|daemon-reload|disconnect)\b/.test(line));
    return { status, said: stdout + stderr, changes };
  }
  const ok = (script: string): ReturnType<typeof inRoot> => {
    const done = inRoot(script);
    expect(done.status, done.said).toBe(0);
    return done;
  };
  const exists = (path: string): boolean => inRoot(`[ -e ${path} ]`).status === 0;

  beforeAll(async () => {
    const lower = run(join(ROOT, "test/support/debian-root"), "trixie").trim();
    const given = join(directory, "given");
    mkdirSync(given);
    writeFileSync(join(given, "systemctl"), SYSTEMCTL);
    writeFileSync(join(given, "docker"), DOCKER);
    run("cp", debOf("one", "amd64"), join(given, "old.deb"));
    newer(join(given, "old.deb"), join(given, "new.deb"));
    holder = spawn("unshare", ["--mount", "--net", "sh", "-c", HOLD, "sh", lower, given], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    if (holder.stdout !== null) await once(holder.stdout, "data");
  });

  afterAll(() => holder.kill("SIGKILL"));

  /** The same with a higher version. */
  function newer(from: string, to: string): void {
    const raw = join(directory, "raw");
    run("dpkg-deb", "--raw-extract", from, raw);
    run("sed", "-i", `s/^Version: .*/Version: ${VERSION}+1/`, join(raw, "DEBIAN/control"));
    run("dpkg-deb", "-Znone", "--root-owner-group", "--build", raw, to);
  }

  test("is installed without a registry: socket and agent start, the controller does not, and the command runs", () => {
    const { changes, said } = ok("apt-get install -y /packages/old.deb");
    expect(changes).toEqual([
      "systemctl --system daemon-reload",
      expect.stringMatching(/ start .*overlay-ts-plugin\.socket$/),
      expect.stringMatching(/ start .*overlay-ts-agent\.service$/),
    ]);
    expect(said).toContain("overlay-ts init");
    expect(ok("ls /etc/systemd/system/*.wants").said).not.toMatch(/controller|metrics/);
    expect(ok("overlay-ts --help").said).toContain("Networks that span Docker hosts");
    expect(ok("overlay-ts version; overlay-ts --version").said).toBe(`${VERSION}\n${VERSION}\n`);
    expect(ok("dpkg --verify overlay-ts").said).toBe("");
  });

  test("is upgraded: the agent is restarted, the socket is not, and what the user wrote stays", () => {
    ok("echo OVERLAY_TS_LOG_LEVEL=debug >>/etc/default/overlay-ts");
    const { changes } = ok("dpkg --force-confold -i /packages/new.deb");
    expect(changes.filter((line) => !line.includes(" start "))).toEqual([
      "systemctl --system daemon-reload",
      expect.stringMatching(/ restart .*overlay-ts-agent\.service$/),
    ]);
    expect(ok("tail -1 /etc/default/overlay-ts").said).toBe("OVERLAY_TS_LOG_LEVEL=debug\n");
  });

  test("is not removed while containers need it: it names them, and nothing is stopped", () => {
    const { status, said, changes } = inRoot("touch /container; apt-get remove -y overlay-ts");
    expect(status).not.toBe(0);
    expect(said).toMatch(/^ +app web$/m);
    expect(said).toContain("OVERLAY_TS_CUT_OFF=yes");
    expect(changes.filter((line) => !line.includes("daemon-reload"))).toEqual([]);
    expect(ok("dpkg-query -W -f '${Status}' overlay-ts").said).toBe("install ok installed");
    expect(ok("overlay-ts --version").said).toBe(`${VERSION}\n`);
  });

  test("is removed with what it made but its data, and installed again as it was", () => {
    ok(
      "mkdir -p /var/lib/overlay-ts/controller; echo secret >/var/lib/overlay-ts/controller/root.key",
    );
    const { changes } = ok("rm /container; apt-get remove -y overlay-ts");
    expect(changes.join("\n")).toMatch(
      / stop .*overlay-ts-plugin\.socket overlay-ts-agent\.service/,
    );
    expect(
      ["/usr/lib/overlay-ts", "/var/cache/overlay-ts", "/usr/bin/overlay-ts"].filter(exists),
    ).toEqual([]);
    expect(exists("/var/lib/overlay-ts/controller/root.key")).toBe(true);
    ok("dpkg -i /packages/new.deb");
    expect(ok("ls /etc/systemd/system/*.wants").said).toMatch(
      /plugin\.socket[^]*agent\.service|agent\.service[^]*plugin\.socket/,
    );
  });

  test("is purged, also from under a container when that is meant: data go, and a root key is kept where it is said", () => {
    const { said, changes } = ok(
      "touch /container; OVERLAY_TS_CUT_OFF=yes apt-get purge -y overlay-ts",
    );
    expect(changes).toContain("docker network disconnect --force app web");
    const [kept = ""] = /\/var\/backups\/overlay-ts-root\.key\.\w+/.exec(said) ?? [];
    expect(ok(`cat ${kept}; stat -c %a ${kept}`).said).toBe("secret\n600\n");
    expect(
      ok(
        "find / -xdev -name '*overlay-ts*' ! -path '/packages/*' ! -path '/proc/*' ! -path '/var/backups/*' ! -path '/var/log/*'",
      ).said,
    ).toBe("");
  });

  test("a clone's installation would hide it: it is refused, with what to do", () => {
    const { status, said } = inRoot(
      "mkdir -p /usr/local/lib/overlay-ts; dpkg -i /packages/old.deb",
    );
    expect(status).not.toBe(0);
    expect(said).toContain("deploy/uninstall.sh");
    expect(exists("/usr/lib/overlay-ts")).toBe(false);
  });
});
