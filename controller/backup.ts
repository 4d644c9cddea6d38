import { z } from "zod";
import { fromBase64Url, toBase64Url } from "../shared/base64url.ts";
import { hex } from "../shared/codec.ts";
import { OverlayError } from "../shared/errors.ts";
import { identityFromSeed } from "../shared/node/identity.ts";
import { sha256 } from "../shared/node/system.ts";
import { generationOf } from "../shared/revision.ts";
import { verifyCertificate } from "../shared/trust.ts";
import { ControllerRecord } from "./core/record.ts";
import type { ControllerParts } from "./files.ts";

/**
 * A controller in one text: a line with the format and the SHA-256 of all that follows, then JSON. The
 * root key is not in it: whoever has a backup can pose as the controller, and is shut out by the root key.
 */
const FORMAT = "1";
const HEAD = /^overlay-ts controller backup (\S+) ([0-9a-f]{64})\n/;

const Body = z.object({
  madeAtMs: z.number().int(),
  rootPublicKey: z.string(),
  controllerKey: z.string(),
  certificate: z.string(),
  record: ControllerRecord,
});

export interface Backup extends ControllerParts {
  readonly madeAtMs: number;
}

export function formatBackup({ madeAtMs, ...parts }: Backup): string {
  const { rootPublicKey, controllerSeed, certificate, record } = parts;
  const body: z.infer<typeof Body> = {
    madeAtMs,
    rootPublicKey: toBase64Url(rootPublicKey),
    controllerKey: toBase64Url(controllerSeed),
    certificate,
    record,
  };
  const text = `${JSON.stringify(body)}\n`;
  return `overlay-ts controller backup ${FORMAT} ${hashOf(text)}\n${text}`;
}

/**
 * Nothing of it is believed before all of it holds: the text is whole, and its record belongs to its
 * keys. @throws INVALID, with what does not hold.
 */
export async function parseBackup(text: string): Promise<Backup> {
  const [head, format, hash] = HEAD.exec(text) ?? [];
  if (head === undefined) throw invalid("is no backup of a controller");
  if (format !== FORMAT)
    throw invalid(
      `is of format ${String(format)}, and this version reads ${FORMAT}`,
      "restore it with the version of overlay-ts that wrote it, or a newer one",
    );
  const body = text.slice(head.length);
  if (hashOf(body) !== hash) throw invalid("is damaged, or not all of it is there");
  const parsed = Body.safeParse(JSON.parse(body));
  if (!parsed.success)
    throw invalid(`holds what this version cannot read: ${z.prettifyError(parsed.error)}`);
  const { madeAtMs, rootPublicKey, controllerKey, certificate, record } = parsed.data;
  const backup: Backup = {
    madeAtMs,
    rootPublicKey: fromBase64Url(rootPublicKey),
    controllerSeed: fromBase64Url(controllerKey),
    certificate,
    record,
  };
  await checkBelongings(backup);
  return backup;
}

async function checkBelongings(backup: Backup): Promise<void> {
  const { rootPublicKey, controllerSeed, certificate, record } = backup;
  const { cluster, controller, generation } = await verifyCertificate(
    rootPublicKey,
    certificate,
  ).catch((error: unknown) => {
    throw invalid("holds a certificate that its root key did not sign", undefined, error);
  });
  if (controller !== identityFromSeed(controllerSeed).node)
    throw invalid("holds a key that its certificate is not for");
  if (record.state.cluster !== cluster)
    throw invalid(`holds the data of cluster ${record.state.cluster} and keys of ${cluster}`);
  if (generationOf(record.state.revision) !== generation)
    throw invalid("holds data of another controller than its keys");
}

function hashOf(text: string): string {
  return hex(sha256.sha256(new TextEncoder().encode(text)));
}

function invalid(
  what: string,
  next = "give the whole file as `overlay-ts controller backup` wrote it, or an older one",
  cause?: unknown,
): OverlayError {
  return new OverlayError({ code: "INVALID", message: `the file ${what}`, next }, { cause });
}
