import type { ContainerEvent, ContainerId } from "./engine-containers.ts";

/** Of containers that are perhaps none of ours: as many as an engine remembers events, and of each the last. */
const CONTAINERS = 256;
const EACH = 16;

/**
 * Signals and pauses of containers that nobody has looked at yet: no look shows that one was told to stop. Of a moment
 * ago the engine itself remembers them; of one that is found to be ours later (its endpoint was lost with the disk, and
 * is read from the kernel when a state names its network) only its event told of them.
 */
export class RememberedSignals {
  readonly #of = new Map<ContainerId, readonly ContainerEvent[]>();

  heard(event: ContainerEvent): void {
    if (event.action !== "kill" && event.action !== "pause") return;
    const { container } = event;
    const before = this.#of.get(container) ?? [];
    this.#of.delete(container);
    this.#of.set(container, [...before, event].slice(-EACH));
    const [oldest] = this.#of.keys();
    if (this.#of.size > CONTAINERS && oldest !== undefined) this.#of.delete(oldest);
  }

  /** All that the engine remembers, the oldest first. @returns of whom */
  remembered(events: readonly ContainerEvent[]): ContainerId[] {
    const lastMs = events.at(-1)?.atMs ?? -Infinity;
    // Told after it was asked.
    const since = [...this.#of.values()].flat().filter(({ atMs }) => atMs >= lastMs);
    this.#of.clear();
    for (const event of [...events, ...since]) this.heard(event);
    return [...this.#of.keys()];
  }

  /** Who looks at the container takes them. */
  take(container: ContainerId): readonly ContainerEvent[] {
    const taken = this.#of.get(container) ?? [];
    this.#of.delete(container);
    return taken;
  }
}
