import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import {
  agentFiles,
  ensureIdentity,
  readMembership,
  writeMembership,
} from "../../../agent/membership/membership-files.ts";
import { readdress } from "../../../agent/membership/readdress.ts";
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
});
