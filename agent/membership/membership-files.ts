import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { fromBase64Url, toBase64Url } from "../shared/base64url.ts";
import { SignedNodeClaim, SignedState } from "../shared/cluster-state.ts";
import { asFailure, OverlayError } from "../shared/errors.ts";
import { ClusterId } from "../shared/ids.ts";
import { type Identity, identityFromSeed } from "../shared/node/identity.ts";
import { writeSecret } from "../shared/node/files.ts";
import { systemRandom } from "../shared/node/system.ts";

/** What makes this host a member: `<data>/agent/identity.key` and `membership.json`, mode 0600. */
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
  readonly wireguardKey: string;
}

export function agentFiles(dataDirectory: string): AgentFiles {
  const directory = join(dataDirectory, "agent");
  return {
    directory,
    database: join(directory, "agent.db"),
    membership: join(directory, "membership.json"),
    identity: join(directory, "identity.key"),
    wireguardKey: join(directory, "wireguard.key"),
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

/** The host's key; made at the first join and kept until `leave`. @throws INVALID as `readIdentity` */
export function ensureIdentity(files: AgentFiles): Identity {
  if (!existsSync(files.identity))
    writeSecret(files.identity, `${toBase64Url(systemRandom.bytes(32))}\n`);
  return readIdentity(files);
}

/** A member's. @throws INVALID when it is gone or damaged: another one would be another host. */
export function readIdentity({ identity }: AgentFiles): Identity {
  try {
    return identityFromSeed(fromBase64Url(readFileSync(identity, "utf8").trim()));
  } catch (cause) {
    throw new OverlayError(
      {
        code: "INVALID",
        message: `this host's key ${identity} cannot be read: ${asFailure(cause).message}`,
        next: "restore it from a backup, or run `overlay-ts leave` and join again",
      },
      { cause },
    );
  }
}

/** The host forgets the cluster: key, membership and tables. */
export function forgetMembership(files: AgentFiles): void {
  for (const file of [files.membership, files.identity, files.wireguardKey])
    rmSync(file, { force: true });
  for (const suffix of ["", "-wal", "-shm"]) rmSync(files.database + suffix, { force: true });
}
