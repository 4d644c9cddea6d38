// @module-tag never

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { clientTable } from "../../agent/core/balancing/client-table.ts";
import { wholeScript } from "../../agent/core/balancing/table-script.ts";
import { gateTable } from "../../agent/names/server/gate-table.ts";
import { memberOf, service } from "../support/services.ts";
import { attr, CREATE, encodeFrame, text } from "../../agent/kernel/netlink/codec.ts";
import { NETLINK, openNetlinkSocket } from "../../agent/kernel/netlink/raw-socket.ts";
import { createPinnedNetns, deletePinnedNetns, inNetns } from "../../agent/kernel/netns.ts";
import { containersNftables as ours, NftProgram } from "../../agent/kernel/nft/nft-program.ts";
import { Nftables } from "../../agent/kernel/nft/nftables.ts";

/** What a container with NET_ADMIN may write in its own namespace, where the agent writes too. */

let directory: string;
let netns: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ovt-hostile-"));
  netns = join(directory, "c1");
  createPinnedNetns(netns);
});

afterEach(() => {
  deletePinnedNetns(netns);
  rmSync(directory, { recursive: true });
});

/** In nf_tables names and numbers are in network order. */
const number = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** A set of IPv4 addresses whose key is, as it says, an expression of type 200: there is none (linux/netfilter/nf_tables.h). */
function makeSet(): void {
  const NFTABLES = 10 << 8;
  const [inet, batch] = [Buffer.from([1, 0, 0, 0]), Buffer.from([0, 0, 0, 10])];
  const table = attr(1, text("own"));
  const typeOf = Buffer.from([3, 14, 0, 4, 200, 0, 0, 0, 1, 6, 0, 4, 1, 0, 0, 0]);
  const key = [attr(3, number(0)), attr(4, number(7)), attr(5, number(4))];
  const set = [table, attr(2, text("s")), ...key, attr(10, number(1)), attr(13, typeOf)];
  const batched = Buffer.concat([
    encodeFrame(16, 1, 1, batch),
    encodeFrame(NFTABLES, 1 | CREATE, 2, inet, table),
    encodeFrame(NFTABLES | 9, 1 | CREATE, 3, inet, ...set),
    encodeFrame(17, 1, 4, batch),
  ]);
  const socket = openNetlinkSocket(netns, NETLINK.netfilter);
  socket.send(batched);
  socket.close();
}

test("what the agent writes in containers is read by the library", () => {
  const services = [service([memberOf(2), memberOf(3)])];
  inNetns(netns, () => ours().run(wholeScript(clientTable(services, "c1"), false), "write"));
  inNetns(netns, () => ours().run(gateTable(1053, 1), "write"));
  expect(inNetns(netns, () => ours())).toBeInstanceOf(Nftables);
});

test("nftables reads in a process of its own what a container made for it to fail at", () => {
  const chosen = (): unknown => inNetns(netns, () => ours().constructor);
  inNetns(netns, () =>
    ours().run("add table ip plain\nadd set ip plain s { type ipv4_addr; }\n", "plain"),
  );
  expect(chosen()).toBe(Nftables);
  makeSet();
  expect(chosen()).toBe(NftProgram);
  // Nftables up to 1.0.6 ends there, which is said; what it is told in other namespaces is done.
  const tried = (): string => {
    try {
      inNetns(netns, () =>
        ours().run("add table ip more\nadd chain ip more c\nadd rule ip more c drop\n", "write"),
      );
      return inNetns(netns, () => ours().list("ip more")) ?? "not there";
    } catch (error) {
      return (error as Error).message;
    }
  };
  expect(tried()).toMatch(/chain c \{|was ended by SIG.*a container's namespace/s);
});

test.each(["table ip other { comment a ; }", "chain ip own c { comment a ; }"])(
  "so it does where a container has a comment: %s",
  (what) => {
    inNetns(netns, () => ours().run(`add table ip own\nadd ${what}\n`, "own"));
    expect(inNetns(netns, () => ours())).toBeInstanceOf(NftProgram);
  },
);

test("a set of a container that says how it was written is read by the program, which writes there as the library does", () => {
  inNetns(netns, () =>
    ours().run("add table ip own\nadd set ip own s { typeof ip saddr; }\n", "own"),
  );
  inNetns(netns, () => {
    const program = ours();
    expect(program).toBeInstanceOf(NftProgram);
    expect(program.list("ip more")).toBeUndefined();
    program.run("create table ip more\n", "create table");
    expect(() => program.run("create table ip more\n", "create table")).toThrow(
      expect.objectContaining({ errno: "EEXIST" }),
    );
    expect(program.list("ip more")).toContain("table ip more {");
    expect(program.list("ip more", "json")).toContain('"nftables"');
  });
});
