import { describe, expect, test } from "vitest";
import { inetFaults6, loneLink } from "../../../agent/kernel/inet.ts";
import type { NetlinkMessage } from "../../../agent/kernel/netlink/codec.ts";
import { attr, u32 } from "../../../agent/kernel/netlink/codec.ts";
import { dumpRules6 } from "../../../agent/kernel/netlink/routing.ts";
import type { Request } from "../../../agent/kernel/netlink/socket.ts";
import { Ip, ipToBytes } from "../../../shared/ip.ts";

const LINK = 7;
const address = { ip: Ip.parse("fd00:192::1"), prefixLength: 64 };

/** As the kernel says it (rtmsg of linux/rtnetlink.h). */
function route(
  to: string,
  { bits, table, type, metric }: { bits: number; table: number; type: number; metric: number },
): NetlinkMessage {
  const head = Buffer.alloc(12);
  head.set([10, bits, 0, 0, table, 2, 0, type]);
  const attributes = [attr(1, ipToBytes(Ip.parse(to))), attr(4, u32(LINK)), attr(6, u32(metric))];
  const payload = Buffer.concat([head, ...attributes]);
  return { type: 24, flags: 0, seq: 0, payload };
}

/** fib_rule_hdr of linux/fib_rules.h; FRA_PRIORITY. */
function rule(priority: number, table: number): NetlinkMessage {
  const head = Buffer.alloc(12);
  head.set([10, 0, 0, 0, table, 0, 0, 1]);
  return { type: 32, flags: 0, seq: 0, payload: Buffer.concat([head, attr(6, u32(priority))]) };
}

const toSubnet = route("fd00:192::", { bits: 64, table: 254, type: 1, metric: 256 });
const toItself = route("fd00:192::1", { bits: 128, table: 255, type: 2, metric: 0 });

/** Asked for routes it answers with these, one after another; the last stays. Its rules are the kernel's. */
function answering(...answers: NetlinkMessage[][]) {
  let asked = 0;
  const dump = async ({ type }: Request): Promise<NetlinkMessage[]> =>
    type === dumpRules6.type
      ? [rule(0, 255), rule(32_766, 254)]
      : (answers[Math.min(asked++, answers.length - 1)] ?? []);
  return { socket: { dump }, asked: () => asked };
}

describe("routes of an IPv6 address", () => {
  test("that are there are looked at once", async () => {
    const { socket, asked } = answering([toSubnet, toItself]);
    expect(await inetFaults6(socket, loneLink(LINK, address))).toEqual([]);
    expect(asked()).toBe(1);
  });

  test("that the kernel makes a moment after the link is up are not missed", async () => {
    const { socket, asked } = answering([], [toSubnet], [toSubnet, toItself]);
    expect(await inetFaults6(socket, loneLink(LINK, address))).toEqual([]);
    expect(asked()).toBe(3);
  });

  test("that do not come are missed", async () => {
    const { socket } = answering([toSubnet]);
    expect(await inetFaults6(socket, loneLink(LINK, address))).toEqual([
      "its route to fd00:192::1/128 is missing",
    ]);
  });
});
