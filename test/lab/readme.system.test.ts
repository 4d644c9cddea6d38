import { readFileSync, writeFileSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, type LabHost, OVERLAY_TS } from "../support/lab-host.ts";
import { Lab } from "./lab.ts";

/** What the README shows at a host's prompt, typed at that host's prompt. The installer has the guest. */

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-readme-test-"));
const readme = readFileSync(join(import.meta.dirname, "../../README.md"), "utf8");
const [first = "", second = ""] = readme.split("## On real hosts");
const [questions = "", troubles = ""] = second.split("## When something does not work");
let lab: Lab;
let hosts: LabHost[];

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 2, docker: true, say: () => {} });
  hosts = [...lab.hosts];
  // The images that it names, as far as it needs them: they stay, and they can ping.
  const change = 'CMD ["/bin/sleep", "100000"]';
  const image = join(directory, "image.tar");
  for (const host of hosts)
    for (const name of ["postgres", "alpine"])
      await host.docker("import", "--change", change, image, name);
});

afterAll(() => Lab.down(directory));

interface Typed {
  readonly host: LabHost;
  readonly command: string;
}

/** Lines `host-2$ command   # remark`. */
function prompts(text: string): Typed[] {
  return [...text.matchAll(/^ +host-(\d)\$ (.+?)(?: +#.*)?$/gm)].map(([, k, command = ""]) => ({
    host: hosts[Number(k) - 1]!,
    command: command.replace(/^sudo /, ""),
  }));
}

function type({ host, command }: Typed): Promise<string> {
  const path = `${dirname(OVERLAY_TS)}:/usr/bin:/bin:/usr/sbin:/sbin`;
  return host.exec("sh", "-c", `cd "$1" && PATH=${path} && ${command}`, "sh", host.directory);
}

test("a cluster of two hosts, its network, and a container that finds the other host's by name", async () => {
  const [init, join2, create, ...others] = prompts(second);
  expect([init?.command, join2?.command, create?.command]).toEqual([
    "overlay-ts init --advertise-addr 198.51.100.1",
    "overlay-ts join --token-file t 198.51.100.1",
    "docker network create -d overlay-ts --attachable app",
  ]);
  expect(others).toEqual([]);
  const said = await type(init!);
  const token = /overlay-ts join --token (\S+) 198\.51\.100\.1/.exec(said)?.[1] ?? "";
  writeFileSync(join(join2!.host.directory, "t"), token);
  await type(join2!);
  await type(create!);

  const [again, run, ping, ...rest] = prompts(first);
  expect(again?.command).toBe(create?.command);
  expect(rest).toEqual([]);
  await run!.host.waitForNetwork("app");
  await type(run!);
  expect(ping?.command).toBe("docker run --network app alpine ping -c 3 db");
  // The name is said a moment after the container runs.
  await eventually(20_000, "the other host's container", async () =>
    expect(await type(ping!)).toContain("3 packets received"),
  );
});

/** Of a table's last column, as far as they are whole there. */
function commandsIn(text: string): string[] {
  return [...text.matchAll(/^\|[^|]+\| .*$/gm)].flatMap(([row]) =>
    [...row.matchAll(/`(overlay-ts [^`]+)`/g)].map(([, command = ""]) => command),
  );
}

test("its questions have commands that answer", async () => {
  const commands = commandsIn(questions);
  expect(commands.length).toBeGreaterThan(5);
  for (const command of commands)
    await eventually(20_000, command, () => type({ host: hosts[0]!, command }));
});

test("what it says for when something does not work are commands", async () => {
  const commands = commandsIn(troubles);
  expect(commands.length).toBeGreaterThan(5);
  const help = (command: string) => type({ host: hosts[0]!, command: `${command} --help` });
  for (const command of commands)
    expect(await help(command)).toContain(`Usage: ${command.replace(/ (--\w+|[A-Z]+)/g, "")}`);
  // A command that is none has the help of what is above it.
  expect(await help("overlay-ts nodes rm")).not.toContain("Usage: overlay-ts nodes rm");
});
