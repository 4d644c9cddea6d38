import { existsSync, readFileSync } from "node:fs";
import { z } from "zod";
import { writeSecret } from "../../shared/node/files.ts";
import type { EngineContainer, EngineNetwork } from "./engine/port.ts";

/** A container that was on a network when this host left it, or withdrew. */
const CutOff = z.object({
  /** As the engine calls it. */
  network: z.string(),
  /** Docker's id, 64 hex digits. */
  container: z.string(),
  name: z.string(),
});
export type CutOff = z.infer<typeof CutOff>;

const File = z.object({ format: z.literal(1), containers: z.array(CutOff) });

/** Kept beside the membership, and longer: Docker does not remember what it disconnected by force. */
export interface CutOffs {
  read(): readonly CutOff[];
  write(containers: readonly CutOff[]): void;
}

/** One that cannot be read says of nobody: it is only a reminder. */
export class CutOffFile implements CutOffs {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  read(): readonly CutOff[] {
    if (!existsSync(this.#path)) return [];
    try {
      return File.parse(JSON.parse(readFileSync(this.#path, "utf8"))).containers;
    } catch {
      return [];
    }
  }

  write(containers: readonly CutOff[]): void {
    writeSecret(this.#path, `${JSON.stringify({ format: 1, containers })}\n`);
  }
}

/** Beside those of before, which may not have been connected again. */
export function rememberCutOff(cutOffs: CutOffs, more: readonly CutOff[]): void {
  if (more.length === 0) return;
  const key = ({ network, container }: CutOff): string => `${container} ${network}`;
  cutOffs.write([...new Map([...cutOffs.read(), ...more].map((one) => [key(one), one])).values()]);
}

/** Those that run without a network that they had, also when it is not shown (yet). */
export function stillCutOff(
  cut: readonly CutOff[],
  containers: readonly EngineContainer[],
  views: readonly EngineNetwork[],
): CutOff[] {
  const known = new Map(containers.map((container) => [container.id, container]));
  return cut.flatMap((one) => {
    const container = known.get(one.container);
    if (container === undefined) return [];
    const ids = views.filter(({ name }) => name === one.network).map(({ id }) => id);
    const isBack = container.networks.some(
      ({ name, id }) => name === one.network || (id !== undefined && ids.includes(id)),
    );
    return isBack ? [] : [{ ...one, name: container.name }];
  });
}
