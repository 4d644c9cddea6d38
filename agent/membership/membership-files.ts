import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { fromBase64Url, toBase64Url } from "../../shared/base64url.ts";
import { SignedNodeClaim, SignedState } from "../../shared/cluster-state.ts";
import { asFailure, OverlayError } from "../../shared/errors.ts";
import { ClusterId } from "../../shared/ids.ts";
import { type Identity, identityFromSeed } from "../../shared/node/identity.ts";
import { moveSecret, writeSecret } from "../../shared/node/files.ts";
import { systemRandom } from "../../shared/node/system.ts";

/** The files of a member: `<data>/agent/identity.key` and `membership.json`, mode 0600. */
const Membership = z.object({
  format: z.literal(1),
  cluster: ClusterId,
  /** Ed25519, 32 bytes, base64url: everything the controller says must chain to it. */
  rootKey: z.string(),
  /** The controller's word for this host, shown to peers. */
  claim: SignedNodeClaim,
  /** The state at joining; newer ones come by gossip and lie in the database. */
  state: SignedState,
});
export type Membership = z.infer<typeof Membership>;

export interface AgentFiles {
  readonly directory: string;
  readonly database: string;
  readonly membership: string;
  readonly identity: string;
  /** The key of a joining that was not answered yet: nobody's, unless the controller admits it. */
  readonly joiningKey: string;
  readonly wireguardKey: string;
  /** Of another address that the controller has not signed (readdress-waiting.ts). */
  readonly readdressing: string;
  /** Outlives the membership. */
  readonly cutOff: string;
  /** Held by the agent that runs, whatever became of its socket. */
  readonly lock: string;
}

export function agentFiles(dataDirectory: string): AgentFiles {
  const directory = join(dataDirectory, "agent");
  return {
    directory,
    database: join(directory, "agent.db"),
    membership: join(directory, "membership.json"),
    identity: join(directory, "identity.key"),
    joiningKey: join(directory, "identity.key.joining"),
    wireguardKey: join(directory, "wireguard.key"),
    readdressing: join(directory, "readdressing.json"),
    cutOff: join(directory, "cut-off.json"),
    lock: join(directory, "agent.lock"),
  };
}

/** Undefined: not joined. @throws INVALID when the file is damaged. */
export function readMembership({ membership }: AgentFiles): Membership | undefined {
  return existsSync(membership) ? parseMembership(membership, readFileSync(membership)) : undefined;
}

/** @throws INVALID */
export function parseMembership(path: string, bytes: Uint8Array): Membership {
  try {
    return Membership.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (error) {
    throw new OverlayError(
      {
        code: "INVALID",
        message: `${path} is damaged`,
        next: "restore it from a backup, or run `overlay-ts leave` and join again",
      },
      { cause: error },
    );
  }
}

/** Whole or not at all: a crash between leaves the host as it was. */
export function writeMembership(files: AgentFiles, membership: Membership): void {
  writeSecret(files.membership, `${JSON.stringify(membership, undefined, 2)}\n`);
}

/** The key of a cluster's first host, or of its controller's; kept until `leave`. @throws INVALID as `readIdentity` */
export function ensureIdentity({ identity }: Pick<AgentFiles, "identity">): Identity {
  if (!existsSync(identity)) writeSecret(identity, newKey());
  return readKey(identity);
}

/** A member's. @throws INVALID when it is gone or damaged: another one would be another host. */
export function readIdentity({ identity }: AgentFiles): Identity {
  return readKey(identity);
}

/**
 * With which this host joins: the one that it has, or one that is this host's only when it is admitted. An image
 * made of the machine before carries no member's key. `isNew`: nobody was asked with it before.
 * @throws INVALID as `readIdentity`
 */
export function joiningIdentity(files: AgentFiles): { identity: Identity; isNew: boolean } {
  const { identity, joiningKey } = files;
  if (existsSync(identity)) return { identity: readKey(identity), isNew: false };
  const isNew = !existsSync(joiningKey);
  if (isNew) writeSecret(joiningKey, newKey());
  return { identity: readKey(joiningKey), isNew };
}

/** The controller has admitted the key: first that is this host's, then it is a member. */
export function becomeMember(files: AgentFiles, membership: Membership): void {
  if (!existsSync(files.identity)) moveSecret(files.joiningKey, files.identity);
  writeMembership(files, membership);
  forgetJoiningKey(files);
}

function newKey(): string {
  return `${toBase64Url(systemRandom.bytes(32))}\n`;
}

/** @throws INVALID */
function readKey(path: string): Identity {
  try {
    return identityFromSeed(fromBase64Url(readFileSync(path, "utf8").trim()));
  } catch (cause) {
    throw new OverlayError(
      {
        code: "INVALID",
        message: `this host's key ${path} cannot be read: ${asFailure(cause).message}`,
        next: "restore it from a backup, or run `overlay-ts leave` and join again",
      },
      { cause },
    );
  }
}

/** The host forgets the cluster: key, membership and tables. */
export function forgetMembership(files: AgentFiles): void {
  const { membership, identity, joiningKey, wireguardKey, readdressing } = files;
  for (const file of [membership, identity, joiningKey, wireguardKey, readdressing])
    rmSync(file, { force: true });
  for (const suffix of ["", "-wal", "-shm"]) rmSync(files.database + suffix, { force: true });
}

/** The controller did not admit it. */
export function forgetJoiningKey({ joiningKey }: AgentFiles): void {
  rmSync(joiningKey, { force: true });
}

/** A host that is no member forgets its key, so that it joins as another; false: it has none. */
export function forgetUnusedKey(files: AgentFiles): boolean {
  const keys = [files.identity, files.joiningKey].filter((file) => existsSync(file));
  if (existsSync(files.membership)) return false;
  for (const file of keys) rmSync(file);
  return keys.length > 0;
}
