import { describe, expect, test } from "vitest";
import { routeFaults6 } from "../../../agent/kernel/proof/lone-link.ts";
import type { NetlinkMessage } from "../../../agent/kernel/netlink/codec.ts";
import { attr, u32 } from "../../../agent/kernel/netlink/codec.ts";
import { Ip, ipToBytes } from "../../../shared/ip.ts";

const LINK = 7;
const address = { ip: Ip.parse("fd00:192::1"), prefixLength: 64 };

/** As the kernel says it (rtmsg of linux/rtnetlink.h). */
function route(to: string, bits: number, table: number, type: number): NetlinkMessage {
  const head = Buffer.alloc(12);
  head.set([10, bits, 0, 0, table, 2, 0, type]);
  const payload = Buffer.concat([head, attr(1, ipToBytes(Ip.parse(to))), attr(4, u32(LINK))]);
  return { type: 24, flags: 0, seq: 0, payload };
}

const toSubnet = route("fd00:192::", 64, 254, 1);
const toItself = route("fd00:192::1", 128, 255, 2);

/** Answers with these, one after another; the last stays. */
function answering(...answers: NetlinkMessage[][]) {
  let asked = 0;
  const dump = async (): Promise<NetlinkMessage[]> =>
    answers[Math.min(asked++, answers.length - 1)] ?? [];
  return { socket: { dump }, asked: () => asked };
}

describe("routes of an IPv6 address", () => {
  test("that are there are looked at once", async () => {
    const { socket, asked } = answering([toSubnet, toItself]);
    expect(await routeFaults6(socket, LINK, address)).toEqual([]);
    expect(asked()).toBe(1);
  });

  test("that the kernel makes a moment after the link is up are not missed", async () => {
    const { socket, asked } = answering([], [toSubnet], [toSubnet, toItself]);
    expect(await routeFaults6(socket, LINK, address)).toEqual([]);
    expect(asked()).toBe(3);
  });

  test("that do not come are missed", async () => {
    const { socket } = answering([toSubnet]);
    expect(await routeFaults6(socket, LINK, address)).toEqual([
      "its route to fd00:192::1/128 is missing",
    ]);
  });
});
