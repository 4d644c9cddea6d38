import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fromBase64Url, toBase64Url } from "../shared/base64url.ts";
import { OverlayError } from "../shared/errors.ts";
import { writeSecret } from "../shared/node/files.ts";
import { type Identity, identityFromSeed } from "../shared/node/identity.ts";
import { systemClock, systemRandom } from "../shared/node/system.ts";
import { signCertificate, verifyCertificate } from "../shared/trust.ts";
import { type ControllerKeys, encodeRecord } from "./controller.ts";
import { newCluster, type NewCluster } from "./core/record.ts";
import { SqliteStore } from "./store/sqlite-store.ts";

export interface ControllerFiles {
  /** Signs controllers' certificates only: meant to be moved offline after init. */
  readonly rootKey: string;
  readonly rootPublicKey: string;
  readonly key: string;
  readonly certificate: string;
  readonly database: string;
}

export function controllerFiles(dataDirectory: string): ControllerFiles {
  const at = (name: string): string => join(dataDirectory, "controller", name);
  return {
    rootKey: at("root.key"),
    rootPublicKey: at("root.pub"),
    key: at("controller.key"),
    certificate: at("controller.cert"),
    database: at("controller.db"),
  };
}

/** The last file written: a crash before it leaves nothing that counts as a cluster. */
export function hasCluster(files: ControllerFiles): boolean {
  return existsSync(files.certificate);
}

/** Root and controller keys and an empty cluster. @throws CONFLICT when there is one. */
export async function createCluster(
  files: ControllerFiles,
  cluster: Omit<NewCluster, "controllerPeer">,
): Promise<void> {
  if (hasCluster(files))
    throw new OverlayError({
      code: "CONFLICT",
      message: "this host has a cluster's controller already",
      next: `keep it, or remove ${join(files.database, "..")} for good: all hosts must then join anew`,
    });
  const root = identityFromSeed(systemRandom.bytes(32));
  const controller = identityFromSeed(systemRandom.bytes(32));
  writeSecret(files.rootKey, `${toBase64Url(root.seed)}\n`);
  writeSecret(files.rootPublicKey, `${toBase64Url(root.publicKey)}\n`);
  writeSecret(files.key, `${toBase64Url(controller.seed)}\n`);
  const record = newCluster(
    { ...cluster, controllerPeer: controller.node },
    { wallMs: systemClock.wallMs(), random: systemRandom },
  );
  const store = new SqliteStore(files.database);
  const held = await store.read();
  await store.write(held?.version ?? 0, encodeRecord(record));
  store.close();
  const claim = { cluster: record.state.cluster, controller: controller.node };
  writeSecret(files.certificate, `${await signCertificate(root, claim)}\n`);
}

/** @throws INVALID or UNAUTHENTICATED when files are damaged or do not belong together. */
export async function readKeys(
  files: ControllerFiles,
): Promise<ControllerKeys & { peer: Identity }> {
  const read = (path: string): string => readFileSync(path, "utf8").trim();
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
