import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

const path = (file: string): string =>
  JSON.stringify(join(import.meta.dirname, `../../../agent/${file}`));

/** In a process and a network namespace of its own: libnftables, which is in this process, could end it. */
const ONE_LEFT = `
import { closeSync, openSync, writeSync } from "node:fs";
import { Nftables } from ${path("kernel/nft/nftables.ts")};
import { GATE_TABLE, gateTable } from ${path("names/server/gate-table.ts")};
const changed = (work) => {
  const nftables = new Nftables();
  try {
    return work(nftables);
  } catch (error) {
    return error.message;
  } finally {
    nftables.close();
  }
};
changed((nftables) => nftables.list(GATE_TABLE));
const open = [];
try { for (;;) open.push(openSync("/dev/null", "r")); } catch {}
closeSync(open.pop());
changed((nftables) => nftables.run("create table " + GATE_TABLE + "\\n" + gateTable(1053, 1), "create table"));
changed((nftables) => nftables.list(GATE_TABLE));
writeSync(1, "runs on");
process.exit(0);
`;

test("with one descriptor left a gate is made, or refused, and the agent runs on", () => {
  const node = [process.execPath, "--disable-warning=ExperimentalWarning", "--input-type=module"];
  const command = [...node, "-e", ONE_LEFT].map((word) => `'${word.replaceAll("'", "'\\''")}'`);
  const { stdout, stderr, status } = spawnSync(
    "unshare",
    ["--user", "--map-root-user", "--net", "sh", "-c", `ulimit -n 64; exec ${command.join(" ")}`],
    { encoding: "utf8" },
  );
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: "runs on", stderr: "" });
});
