import { toBase64Url } from "../shared/base64url.ts";
import { writeSecret } from "../shared/node/files.ts";
import { identityFromSeed } from "../shared/node/identity.ts";
import { systemClock, systemRandom } from "../shared/node/system.ts";
import { signCertificate } from "../shared/trust.ts";
import { newCluster, type NewCluster } from "./core/record.ts";
import { type ControllerFiles, refuseSecond, writeController } from "./files.ts";

/** Root and controller keys and an empty cluster. @throws CONFLICT when there is one. */
export async function createCluster(
  files: ControllerFiles,
  cluster: Omit<NewCluster, "controllerPeer">,
): Promise<void> {
  refuseSecond(
    files,
    `keep it, or remove ${files.directory} for good: all hosts must then join anew`,
  );
  const root = identityFromSeed(systemRandom.bytes(32));
  const controller = identityFromSeed(systemRandom.bytes(32));
  writeSecret(files.rootKey, `${toBase64Url(root.seed)}\n`);
  const record = newCluster(
    { ...cluster, controllerPeer: controller.node },
    { wallMs: systemClock.wallMs(), random: systemRandom },
  );
  const claim = { cluster: record.state.cluster, controller: controller.node };
  await writeController(files, {
    rootPublicKey: root.publicKey,
    controllerSeed: controller.seed,
    certificate: await signCertificate(root, claim),
    record,
  });
}
