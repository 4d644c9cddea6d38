import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

/** What `deploy/uninstall.sh` does by what Docker says, on a host made of mounts; systemd has the guest. */

const UNINSTALL = join(import.meta.dirname, "../../deploy/uninstall.sh");
const directory = mkdtempSync(join(tmpdir(), "overlay-ts-uninstall-test-"));
const programs = join(directory, "bin");
const asked = join(directory, "asked");

/** What it removes from lies in memory, and there is no Docker but the one of the test. */
const HOST = `
  set -e
  for place in /run /usr/local /var/cache /var/lib; do mount -t tmpfs tmpfs $place; done
  for program in /usr/bin/docker /usr/sbin/dockerd; do
    [ ! -e $program ] || mount --bind /dev/null $program
  done
  mkdir -p /usr/local/lib/overlay-ts
  status=0
  eval "$BEFORE"
  "$@" || status=$?
  eval "$AFTER"
  [ ! -e /usr/local/lib/overlay-ts ] || echo installed
  exit $status
`;

beforeAll(() => mkdirSync(programs));

afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** `docker`: a shell's cases of the arguments; undefined: there is none. */
function uninstall(docker: string | undefined, ...options: string[]) {
  return uninstallBetween("", "", docker, options);
}

/** @param before of the host, as a shell's commands; and `after` */
function uninstallBetween(
  before: string,
  after: string,
  docker: string | undefined,
  options: readonly string[],
) {
  const program = join(programs, "docker");
  rmSync(program, { force: true });
  writeFileSync(asked, "");
  if (docker !== undefined) {
    writeFileSync(program, `#!/bin/sh\necho "$*" >>${asked}\ncase $* in\n${docker}\nesac\n`);
    chmodSync(program, 0o755);
  }
  const { status, stdout, stderr } = spawnSync(
    "unshare",
    ["--mount", "--net", "sh", "-c", HOST, "sh", UNINSTALL, ...options],
    {
      encoding: "utf8",
      env: { PATH: `${programs}:/usr/sbin:/usr/bin:/sbin:/bin`, BEFORE: before, AFTER: after },
    },
  );
  return { status, isInstalled: stdout.includes("installed"), said: stderr, stdout };
}

const DEAD = '*) echo "Cannot connect to the Docker daemon" >&2; exit 1 ;;';
const LISTS = '"network ls"*) echo app ;;';
const USED = `${LISTS}\n"ps -a"*) echo "app web" ;;`;

test.each([
  ["to nothing", DEAD],
  ["to no question for containers", `${LISTS}\n${DEAD}`],
])("an engine that answers %s may have containers: refused, nothing is touched", (_, docker) => {
  const { status, isInstalled, said } = uninstall(docker);
  expect(said).toContain("Cannot connect to the Docker daemon");
  expect(said).toMatch(
    /the Docker engine does not answer: containers may use .*\n.*start it .*--force/,
  );
  expect({ status, isInstalled }).toEqual({ status: 1, isInstalled: true });
});

test("the same with --force: gone, and what stays on the engine is said", () => {
  const { status, isInstalled, said } = uninstall(DEAD, "--force");
  expect(said).toMatch(/its networks stay on the Docker engine, .* `docker network rm`/);
  expect({ status, isInstalled }).toEqual({ status: 0, isInstalled: false });
});

test("containers that use its networks are named; with --force they are cut off", () => {
  const refused = uninstall(USED);
  expect(refused.said).toMatch(/^ +app web$/m);
  expect(refused).toMatchObject({ status: 1, isInstalled: true });
  expect(uninstall(USED, "--force")).toMatchObject({ status: 0, isInstalled: false });
  expect(readFileSync(asked, "utf8")).toMatch(/^network disconnect --force app web$/m);
});

test.each([
  ["an engine without containers there", LISTS],
  ["no engine", undefined],
])("%s", (_, docker) => {
  const { status, isInstalled, said } = uninstall(docker);
  expect(said).not.toMatch(/does not answer/);
  expect({ status, isInstalled }).toEqual({ status: 0, isInstalled: false });
});

test("the host's and containers' rules go, others stay", () => {
  const inContainer = "nsenter --net=/run/docker/netns/c1";
  const before = `
    mkdir -p /run/docker/netns
    touch /run/docker/netns/c1
    unshare --net=/run/docker/netns/c1 true
    for table in overlay_ts_egress others; do nft add table inet $table; done
    for table in overlay_ts_vip others; do ${inContainer} nft add table inet $table; done
    for program in iptables ip6tables; do
      $program -N DOCKER-USER
      $program -A DOCKER-USER -i eth9 -j ACCEPT
      $program -A DOCKER-USER -i ovt+ -j ACCEPT
      $program -A DOCKER-USER -o ovt+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    done
  `;
  const after = `
    nft list tables inet
    ${inContainer} nft list tables inet
    iptables -S DOCKER-USER
    ip6tables -S DOCKER-USER
  `;
  const { stdout, said } = uninstallBetween(before, after, LISTS, []);
  const chain = ["-N DOCKER-USER", "-A DOCKER-USER -i eth9 -j ACCEPT"];
  expect(stdout.trim().split("\n"), said).toEqual([
    "table inet others",
    "table inet others",
    ...chain,
    ...chain,
  ]);
});
