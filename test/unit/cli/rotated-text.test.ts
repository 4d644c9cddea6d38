import { expect, test } from "vitest";
import { rotatedText } from "../../../agent/cli/key-commands.ts";

test.each([
  [[], true, /^this host gets a new WireGuard key/],
  [["h2", "h3"], false, /^new keys are being made: h2, h3$/],
  [["h2"], true, /^new keys are being made: h2\nthis host gets a new WireGuard key/],
  [[], false, /^this host is on no encrypted network: it has no key to change$/],
])("`key rotate` says what happened: %j, %s", (rotated, wireguard, text) => {
  expect(rotatedText({ rotated, wireguard })).toMatch(text);
});
