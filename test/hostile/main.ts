import { parseArgs } from "node:util";
import { fromBase64Url } from "../../shared/base64url.ts";
import {
  agentFiles,
  ensureIdentity,
  readMembership,
} from "../../agent/membership/membership-files.ts";
import { ControlClient } from "../../controller/wire/client.ts";
import { Libp2pChannel } from "../../controller/wire/libp2p-channel.ts";
import { sha256 } from "../../shared/node/system.ts";
import { openSealed, sealKeyPair } from "../../shared/sealed-box.ts";
import { verifyState } from "../../shared/trust.ts";
import { ATTACKS, type Attacker } from "./attacks.ts";
import { RawMember } from "./raw-member.ts";

/**
 * `node test/hostile/main.ts --data-dir DIR ATTACK [JSON]`: the admitted host whose keys are in DIR does
 * what no agent does (attacks.ts), to every other host. Its own agent must not run.
 */

const { values, positionals } = parseArgs({
  options: { "data-dir": { type: "string" } },
  allowPositionals: true,
});
const [name = "", given = "{}"] = positionals;
const attack = ATTACKS[name];
if (attack === undefined) throw new Error(`attacks are ${Object.keys(ATTACKS).join(", ")}`);

const files = agentFiles(values["data-dir"] ?? "");
const membership = readMembership(files);
if (membership === undefined) throw new Error(`no member's keys in ${files.directory}`);
const identity = ensureIdentity(files);
const rootKey = fromBase64Url(membership.rootKey);
const held = await verifyState(rootKey, membership.state);
const control = new ControlClient(new Libp2pChannel(identity.seed), () => ({
  address: held.controller.address,
  port: held.settings.ports.controller,
  peer: held.controller.peerId,
}));
// Once it is revoked it has what it had.
const told = await control
  .request({ v: 1, kind: "state", revision: 0 }, "state")
  .catch(() => undefined);
const signedState = told?.answer.state ?? membership.state;
const state = await verifyState(rootKey, signedState);
const { secretKey } = sealKeyPair(sha256, identity.seed);
const member = await RawMember.open({ seed: identity.seed, claim: membership.claim, rootKey });
const port = state.settings.ports.gossip;
const attacker: Attacker = {
  identity,
  state,
  signedState,
  control,
  /** @throws what the controller refuses with. */
  async networkKey(network) {
    const { answer } = await control.request({ v: 1, kind: "networkKey", network }, "key");
    return openSealed(secretKey, answer.key.sealed);
  },
  async victims() {
    const dialled = state.nodes
      .filter(({ id }) => id !== identity.node)
      .map(({ id, address }) => member.dial({ node: id, address, port }).catch(() => undefined));
    return (await Promise.all(dialled)).filter((connection) => connection !== undefined);
  },
};
process.stdout.write(`${JSON.stringify(await attack(attacker, JSON.parse(given) as never))}\n`);
await member.close();
await control.close();
