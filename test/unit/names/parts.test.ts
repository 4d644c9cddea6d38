import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { framed, Unframer } from "../../../agent/names/server/framing.ts";
import { gateTable, leadsTo } from "../../../agent/names/server/gate-table.ts";
import { HangWatch } from "../../../agent/names/server/hang-watch.ts";
import { clientPacket } from "../../../agent/names/server/reinjection.ts";
import { reverseName } from "../../../agent/names/server/reverse-name.ts";
import { TokenBucket } from "../../../shared/token-bucket.ts";
import { bytesToIp } from "../../../shared/ip.ts";

describe("DNS over TCP", () => {
  test("whatever the pieces, the messages are those that were sent", () => {
    const message = fc.uint8Array({ maxLength: 700 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1 }),
        (messages, cuts) => {
          const stream = Buffer.concat(messages.map(framed));
          const unframer = new Unframer();
          const got: Buffer[] = [];
          for (let at = 0, i = 0; at < stream.length; i++) {
            const cut = cuts[i % cuts.length]!;
            got.push(...unframer.push(stream.subarray(at, at + cut)));
            at += cut;
          }
          expect(got).toEqual(messages);
        },
      ),
    );
  });
});

describe("names of addresses", () => {
  const ip4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
  // With zeros, as addresses have them.
  const ip6 = fc
    .array(fc.constantFrom(0, 0, 0, 1, 0xab, 0xfd00, 0xffff), { minLength: 8, maxLength: 8 })
    .map((groups) => Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255])));

  test("the address that is asked for, in the spelling that the tables have", () => {
    fc.assert(
      fc.property(ip4, (bytes) => {
        const name = `${[...bytes].toReversed().join(".")}.in-addr.arpa`;
        expect(reverseName(name)).toBe(bytesToIp(bytes));
      }),
    );
    fc.assert(
      fc.property(ip6, (bytes) => {
        const digits = Buffer.from(bytes).toString("hex");
        expect(reverseName(`${digits.split("").toReversed().join(".")}.ip6.arpa`)).toBe(
          bytesToIp(bytes),
        );
      }),
      { numRuns: 1000 },
    );
  });
});

describe("the token bucket", () => {
  test("a burst, then so many a second, and never more than the burst", () => {
    const bucket = new TokenBucket(100, 5, 0);
    const taken = (nowMs: number): number => {
      let count = 0;
      while (bucket.take(nowMs)) count++;
      return count;
    };
    expect([taken(0), taken(0), taken(10), taken(40), taken(60_000)]).toEqual([5, 0, 1, 3, 5]);
  });
});

describe("the watch over a thread", () => {
  const watch = (): HangWatch => new HangWatch(300, { wellMs: 100, hungMs: 100 }, 0);

  test("one whose loop is idle now and then is well", () => {
    const watched = watch();
    for (let now = 100; now < 2000; now += 100) expect(watched.look(now / 2, 0, now)).toBe("well");
  });

  test("one that is never idle is hung, unless it answers", () => {
    const watched = watch();
    watched.look(50, 0, 100);
    expect([200, 300, 400].map((now) => watched.look(50, 0, now))).toEqual(Array(3).fill("silent"));
    expect(watched.look(50, 0, 401)).toBe("hung");
    watched.answered(450);
    expect([500, 600, 700].map((now) => watched.look(50, 0, now))).toEqual(Array(3).fill("silent"));
    expect(watched.look(50, 0, 751)).toBe("hung");
    expect(watched.look(51, 0, 800)).toBe("well");
  });

  test("the time when it had no processor does not count", () => {
    const watched = watch();
    watched.look(50, 0, 100);
    const seen = [200, 300, 400, 500].map((now) => watched.look(50, now - 150, now));
    expect(seen).toEqual(Array(4).fill("silent"));
    expect([600, 700, 750].map((now) => watched.look(50, 350, now))).toEqual(
      Array(3).fill("silent"),
    );
    expect(watched.look(50, 350, 800)).toBe("hung");
  });

  test("the time when nobody looked does not count", () => {
    const watched = watch();
    watched.look(50, 0, 100);
    expect(watched.look(50, 0, 5000)).toBe("silent");
    expect([5100, 5200].map((now) => watched.look(50, 0, now))).toEqual(["silent", "silent"]);
    expect(watched.look(50, 0, 5301)).toBe("hung");
  });

  test("one that is well is looked at five times a second, and a hang is known in half a second", () => {
    for (let hangsMs = 60_000; hangsMs < 60_500; hangsMs += 10) {
      const watched = new HangWatch(300, { wellMs: 200, hungMs: 100 }, 0);
      let [looks, now] = [0, 0];
      for (let seen = "well"; seen !== "hung"; looks++) {
        now += watched.pauseMs;
        seen = watched.look(Math.min(now, hangsMs), 0, now);
      }
      expect(now - hangsMs).toBeLessThanOrEqual(501);
      expect(looks).toBeLessThan(5 * 61 + 3);
    }
  });
});

describe("the client's packet once more", () => {
  test("from the client, to port 53 of Docker's resolver, without UDP's checksum", () => {
    const packet = clientPacket({ address: "10.1.2.3", port: 0xbeef }, Buffer.from("query"));
    expect(packet.toString("hex")).toBe(
      ["45000021", "00000000", "40110000", "0a010203", "7f00000b", "beef0035", "000d0000"].join(
        "",
      ) + Buffer.from("query").toString("hex"),
    );
  });
});

describe("the gate's table", () => {
  const rule = (protocol: string, port: number): string =>
    `\t\tiifname "lo" ip daddr 127.0.0.11 meta l4proto ${protocol} ct original proto-dst 53 meta mark != 0x00004f56 tproxy to 127.0.0.11:${port}`;
  const answers = "\t\tip saddr 127.0.0.11 udp sport 4000 notrack udp sport set 53";
  const listed = (...rules: string[]): string =>
    ["table ip overlay_ts_dns {", "\tchain questions {", ...rules, "\t}", "}", ""].join("\n");

  test.each<[string, string, boolean]>([
    ["as it was made", listed(rule("udp", 4000), rule("tcp", 4000), answers), true],
    // As agents before made it.
    [
      "by the interface's index",
      listed(rule("udp", 4000), rule("tcp", 4000), answers).replaceAll("iifname", "iif"),
      false,
    ],
    ["flushed", listed(), false],
    ["one rule gone", listed(rule("udp", 4000), answers), false],
    ["to another port", listed(rule("udp", 4001), rule("tcp", 4000), answers), false],
    ["to a port that begins so", listed(rule("udp", 40001), rule("tcp", 4000), answers), false],
    ["twice", listed(...[4000, 4000, 4000].map((p) => rule("udp", p)), answers), false],
    [
      "old rules beside",
      listed(rule("udp", 4000), rule("tcp", 4000), rule("tcp", 1), answers),
      false,
    ],
  ])("%s", (_, text, stands) => expect(leadsTo(text, 4000)).toBe(stands));

  test("says the port three times, and the mark", () => {
    const text = gateTable(4000, 0x4f56);
    expect(text.match(/\b4000\b/g)).toHaveLength(3);
    expect(text.match(/mark != 20310/g)).toHaveLength(2);
  });
});
