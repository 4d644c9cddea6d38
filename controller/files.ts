import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fromBase64Url, toBase64Url } from "../shared/base64url.ts";
import { OverlayError } from "../shared/errors.ts";
import { whyUnreadable, writeSecret } from "../shared/node/files.ts";
import { type Identity, identityFromSeed } from "../shared/node/identity.ts";
import { verifyCertificate } from "../shared/trust.ts";
import type { ControllerKeys } from "./controller.ts";
import type { ControllerRecord } from "./core/record.ts";
import { wholeOf } from "./record-rows.ts";
import { SqliteStore } from "./store/sqlite-store.ts";

/** What a controller is on disk: `<data>/controller`, mode 0600. */
export interface ControllerFiles {
  readonly directory: string;
  /** Signs controllers' certificates only: meant to be moved offline after init. */
  readonly rootKey: string;
  readonly rootPublicKey: string;
  readonly key: string;
  readonly certificate: string;
  readonly database: string;
  /** Written when a backup was made; as old as that. */
  readonly lastBackup: string;
}

export function controllerFiles(dataDirectory: string): ControllerFiles {
  const directory = join(dataDirectory, "controller");
  const at = (name: string): string => join(directory, name);
  return {
    directory,
    rootKey: at("root.key"),
    rootPublicKey: at("root.pub"),
    key: at("controller.key"),
    certificate: at("controller.cert"),
    database: at("controller.db"),
    lastBackup: at("last-backup"),
  };
}

/** The last file written: a crash before it leaves nothing that counts as a cluster. */
export function hasCluster(files: ControllerFiles): boolean {
  return existsSync(files.certificate);
}

/** When its data were last saved by `controller backup`; undefined: never, as far as is known. */
export function backedUpAtMs(files: ControllerFiles): number | undefined {
  return statSync(files.lastBackup, { throwIfNoEntry: false })?.mtimeMs;
}

/** @throws CONFLICT when there is a cluster already. */
export function refuseSecond(files: ControllerFiles, next: string): void {
  if (hasCluster(files))
    throw new OverlayError({
      code: "CONFLICT",
      message: "this host has a cluster's controller already",
      next,
    });
}

/** All that a controller is. */
export interface ControllerParts {
  readonly rootPublicKey: Uint8Array;
  /** Ed25519, 32 bytes. */
  readonly controllerSeed: Uint8Array;
  readonly certificate: string;
  readonly record: ControllerRecord;
}

/** The files of a controller, over what an attempt before left; it counts with the last of them. */
export async function writeController(
  files: ControllerFiles,
  { rootPublicKey, controllerSeed, certificate, record }: ControllerParts,
): Promise<void> {
  writeSecret(files.rootPublicKey, `${toBase64Url(rootPublicKey)}\n`);
  writeSecret(files.key, `${toBase64Url(controllerSeed)}\n`);
  const store = new SqliteStore(files.database);
  try {
    const held = await store.read();
    const { put } = wholeOf(record);
    const kept = new Set(put.map(([key]) => key));
    const drop = [...(held?.rows.keys() ?? [])].filter((key) => !kept.has(key));
    await store.write(held?.version ?? 0, { put, drop });
  } finally {
    store.close();
  }
  writeSecret(files.certificate, `${certificate}\n`);
}

/** @throws INVALID or UNAUTHENTICATED when files are damaged or do not belong together. */
export async function readKeys(
  files: ControllerFiles,
): Promise<ControllerKeys & { peer: Identity }> {
  const read = (path: string): string => readOwn(path).trim();
  const rootKey = fromBase64Url(read(files.rootPublicKey));
  const peer = identityFromSeed(fromBase64Url(read(files.key)));
  const certificate = read(files.certificate);
  const { controller } = await verifyCertificate(rootKey, certificate);
  if (controller !== peer.node)
    throw new OverlayError({
      code: "INVALID",
      message: `${files.certificate} is not for the key in ${files.key}`,
      next: "restore both from the same backup",
    });
  return { controller: peer, certificate, rootKey, peer };
}

/** @throws STORE */
function readOwn(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new OverlayError(
      {
        code: "STORE",
        message: `the controller's file ${path} cannot be read: ${whyUnreadable(cause)}`,
        next: "move what is left of the controller away, and bring it back from a backup: `overlay-ts controller restore FILE`",
      },
      { cause },
    );
  }
}

/** The Ed25519 key pair in a file of `init`'s. @throws INVALID, NOT_FOUND */
export function readKeyFile(path: string): Identity {
  if (!existsSync(path))
    throw new OverlayError({
      code: "NOT_FOUND",
      message: `there is no file ${path}`,
      next: "give the root key that `overlay-ts init` made, from where it was moved to",
    });
  try {
    return identityFromSeed(fromBase64Url(readFileSync(path, "utf8").trim()));
  } catch (error) {
    throw new OverlayError(
      {
        code: "INVALID",
        message: `${path} holds no key: 32 bytes as base64url are one`,
        next: "give the root key that `overlay-ts init` made",
      },
      { cause: error },
    );
  }
}
