import { expect, test } from "vitest";
import { rotatedText, scheduleText } from "../../../agent/cli/key-commands.ts";

test.each([
  [[], true, /^this host gets a new WireGuard key/],
  [["h2", "h3"], false, /^new keys are being made: h2, h3$/],
  [["h2"], true, /^new keys are being made: h2\nthis host gets a new WireGuard key/],
  [[], false, /^this host is on no encrypted network: it has no key to change$/],
])("`key rotate` says what happened: %j, %s", (rotated, wireguard, text) => {
  expect(rotatedText({ rotated, wireguard })).toMatch(text);
});

test("the schedule is said in units", () => {
  const held = {
    ipsecMs: 3_600_000,
    ipsecPackets: 1000,
    ipsecBytes: 1_099_511_627_776,
    gossipMs: 2_592_000_000,
  };
  expect(scheduleText(held)).toMatch(/after 1 hour, 1000 packets or 1 TiB,.*\n.*after 30 days$/);
});
