import { basename } from "node:path";
import { z } from "zod";
import { EndpointId, NetworkId } from "../../shared/ids.ts";
import { Signal } from "../../shared/signal.ts";
import type { Disk } from "../store/disk.ts";

const Joined = z.object({
  endpoint: EndpointId,
  network: NetworkId,
  /** Docker's SandboxKey: `/var/run/docker/netns/<12 hex>`. */
  path: z.string().max(4096),
  /** As `Inside`. Absent: none, or not looked at yet. */
  links: z.record(z.string(), z.string()).optional(),
  /** Of an internal network only. */
  outside: z
    .object({ wayOut: z.boolean(), resolvers: z.boolean(), others: z.array(z.string()) })
    .optional(),
});
export type Joined = z.infer<typeof Joined>;

const PREFIX = "joined/";

/**
 * Which endpoint is in which container's namespace: Docker says it once, at Join, so it is on disk
 * before that is answered.
 */
export class JoinedSandboxes {
  /** Of the path: an endpoint came into its namespace, or left it. */
  readonly changed = new Signal<[path: string]>();
  readonly #disk: Disk;
  readonly #joined = new Map<EndpointId, Joined>();

  constructor(disk: Disk) {
    this.#disk = disk;
    for (const joined of disk.list(PREFIX, Joined)) this.#joined.set(joined.endpoint, joined);
  }

  all(): Joined[] {
    return [...this.#joined.values()];
  }

  of(endpoint: EndpointId): Joined | undefined {
    return this.#joined.get(endpoint);
  }

  put(joined: Joined): void {
    this.#disk.put(PREFIX + joined.endpoint, joined);
    this.#joined.set(joined.endpoint, joined);
    this.changed.emit(joined.path);
  }

  /** More is known of one that is there; a full disk has it owed. */
  amend(joined: Joined): void {
    this.#disk.owePut(PREFIX + joined.endpoint, joined);
    this.#joined.set(joined.endpoint, joined);
  }

  remove(endpoint: EndpointId): void {
    const path = this.#joined.get(endpoint)?.path;
    if (path === undefined) return;
    this.#joined.delete(endpoint);
    this.#disk.oweDelete(PREFIX + endpoint);
    this.changed.emit(path);
  }
}

/** The namespace's name in Docker's directory, which tells sandboxes apart. */
export function sandboxName(path: string): string {
  return basename(path);
}
