import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import {
  agentFiles,
  ensureIdentity,
  forgetMembership,
  readMembership,
  writeMembership,
} from "../../../agent/membership/membership-files.ts";
import { readdress } from "../../../agent/membership/readdress.ts";
import { rememberWaiting, whyNotHere } from "../../../agent/membership/readdress-waiting.ts";
import { toBase64Url } from "../../../shared/base64url.ts";
import { Ip } from "../../../shared/ip.ts";
import { signState } from "../../../shared/trust.ts";
import { signedCluster } from "../../support/signed-cluster.ts";

test("without the controller nothing changes, and it is said what waits and when to run it again", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ovt-readdress-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const files = agentFiles(directory);
  mkdirSync(files.directory, { recursive: true });
  ensureIdentity(files);
  const { certificate, claims, controller, root, state } = await signedCluster();
  // Nobody listens there.
  const known = { ...state, controller: { ...state.controller, address: Ip.parse("127.0.0.9") } };
  writeMembership(files, {
    format: 1,
    cluster: state.cluster,
    rootKey: toBase64Url(root.publicKey),
    claim: claims[0]!,
    state: await signState(controller, certificate, state),
  });
  const held = readMembership(files)!;
  const advertise = Ip.parse("127.0.0.1");
  await expect(readdress(files, held, known, { advertise }, undefined)).rejects.toMatchObject({
    code: "UNREACHABLE",
    message: expect.stringMatching(/nothing has changed, and this host waits for the controller/),
    next: expect.stringMatching(/127\.0\.0\.9 answers, run `overlay-ts node readdress` again/),
  });
  expect(readMembership(files)).toEqual(held);
  const local = state.nodes[0]!.address;
  expect(whyNotHere(files, local, () => false)).toMatchObject({
    message: expect.stringMatching(
      /is on none of its interfaces; `node readdress` to 127\.0\.0\.1 waits for the controller at 127\.0\.0\.9/,
    ) as string,
    next: expect.stringMatching(/^run `overlay-ts node readdress` again/) as string,
  });
  // Its address is back, or it is at another one: later it has not been asked.
  expect(whyNotHere(files, local, () => true)).toBeUndefined();
  const { message } = whyNotHere(files, local, () => false)!;
  expect(message).toBe(`this host's address ${local} is on none of its interfaces`);
});

test("a damaged word of it is none, and a host that leaves forgets it", () => {
  const directory = mkdtempSync(join(tmpdir(), "ovt-readdress-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const files = agentFiles(directory);
  const [address, controller] = [Ip.parse("127.0.0.1"), Ip.parse("127.0.0.9")];
  const said = () => whyNotHere(files, address, () => false)?.message;
  const unasked = said();
  rememberWaiting(files, { address, controller });
  expect(said()).toContain("waits for the controller");
  writeFileSync(files.readdressing, "{");
  expect(said()).toBe(unasked);
  rememberWaiting(files, { address, controller });
  forgetMembership(files);
  expect(said()).toBe(unasked);
});
