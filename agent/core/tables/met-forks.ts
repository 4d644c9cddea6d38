import { isFork, type StatePoint } from "../../../shared/state/head.ts";

/** As many as `controller recover` passes over (controller/core/recovery.ts). */
const UNHEARD = 100;

/** Two states of one revision, both signed, of which this host has heard. */
export class MetForks {
  #revision: number | undefined;

  /** Of points that the controller signed: is one another than what is held at its revision? True once for each revision. */
  meet(held: StatePoint | undefined, points: readonly (StatePoint | undefined)[]): boolean {
    if (held === undefined || this.#revision === held.revision) return false;
    if (!points.some((point) => point !== undefined && isFork(held, point))) return false;
    this.#revision = held.revision;
    return true;
  }

  /** The newest, until the controller has recovered: then it has passed over as many. */
  shown(revision: number): number | undefined {
    const met = this.#revision;
    return met === undefined || revision >= met + UNHEARD ? undefined : met;
  }
}
