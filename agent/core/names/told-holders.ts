import type { EndpointId } from "../../../shared/ids.ts";
import { changedGroups, changedPart } from "../data-plane/changed-part.ts";
import { type Holder, holdersOf, type NamedHost } from "./names.ts";

/** What to tell so that who knows what was told before knows what is so now. */
export interface HolderChanges {
  readonly put: readonly Holder[];
  readonly remove: readonly EndpointId[];
}

/** Those that held names, and those that hold them now, of hosts and endpoints where something is another. */
export interface ChangedHolders {
  readonly before: readonly Holder[];
  readonly after: readonly Holder[];
}

interface Told {
  readonly holder: Holder;
  /** How many have the endpoint. */
  readonly claims: number;
}

/**
 * Who was told to hold the names of one network, kept by what changes: a container more or less costs what is said of
 * it. A host may name another's endpoint: then the last that does has it.
 */
export class ToldHolders {
  #hosts: readonly NamedHost[] = [];
  /** Told beside them, after them. */
  #beside: readonly Holder[] = [];
  #told = new Map<EndpointId, Told>();

  /** @param beside who else is to be told, when these hold names; never changed, only replaced */
  change(
    hosts: readonly NamedHost[],
    beside: (changed: ChangedHolders) => readonly Holder[] = () => [],
  ): HolderChanges {
    const groups = changedGroups(this.#hosts, hosts, sameNaming);
    const changed = {
      before: groups.before.flatMap(holdersOf),
      after: groups.after.flatMap(holdersOf),
    };
    const now = beside(changed);
    const rest = changedPart(this.#beside, now);
    this.#hosts = hosts;
    this.#beside = now;
    return this.#tell([...changed.before, ...rest.before], [...changed.after, ...rest.after]);
  }

  /** What to tell should that which was told not be what follows from the whole; undefined: it is. */
  correction(): HolderChanges | undefined {
    const anew = new ToldHolders();
    anew.change(this.#hosts, () => this.#beside);
    const put = [...anew.#told].flatMap(([endpoint, is]) => {
      const was = this.#told.get(endpoint);
      const isSame = was?.claims === is.claims && sameHolder(was.holder, is.holder);
      return isSame ? [] : [is.holder];
    });
    const remove = [...this.#told.keys()].filter((endpoint) => !anew.#told.has(endpoint));
    this.#told = anew.#told;
    return put.length + remove.length === 0 ? undefined : { put, remove };
  }

  #tell(before: readonly Holder[], after: readonly Holder[]): HolderChanges {
    const claims = new Map<EndpointId, number>();
    const count = ({ endpoint }: Holder, more: 1 | -1): void => {
      const held = claims.get(endpoint) ?? this.#told.get(endpoint)?.claims ?? 0;
      claims.set(endpoint, held + more);
    };
    const shared = new Set(
      before.map(({ endpoint }) => endpoint).filter((id) => this.#isShared(id)),
    );
    for (const holder of before) count(holder, -1);
    for (const holder of after) count(holder, 1);
    const last = new Map(after.map((holder) => [holder.endpoint, holder]));
    for (const [id, n] of claims) if (n > 1) shared.add(id);
    if (shared.size > 0)
      for (const holder of this.#all())
        if (shared.has(holder.endpoint)) last.set(holder.endpoint, holder);
    const [put, remove]: [Holder[], EndpointId[]] = [[], []];
    for (const [endpoint, n] of claims) {
      const told = this.#told.get(endpoint)?.holder;
      const holder = last.get(endpoint);
      if (n === 0 || holder === undefined) {
        this.#told.delete(endpoint);
        if (told !== undefined) remove.push(endpoint);
        continue;
      }
      this.#told.set(endpoint, { holder, claims: n });
      if (told === undefined || !sameHolder(told, holder)) put.push(holder);
    }
    return { put, remove };
  }

  #isShared(endpoint: EndpointId): boolean {
    return (this.#told.get(endpoint)?.claims ?? 0) > 1;
  }

  #all(): Holder[] {
    return [...this.#hosts.flatMap(holdersOf), ...this.#beside];
  }
}

/** Of the same host: all that it names is what it was, if its members are. */
export function sameNaming(a: NamedHost, b: NamedHost): boolean {
  return a.node === b.node && a.isLost === b.isLost && a.unhealthyNames === b.unhealthyNames;
}

function sameHolder(a: Holder, b: Holder): boolean {
  if (a === b) return true;
  return (
    a.node === b.node &&
    a.out === b.out &&
    sameList(a.names, b.names) &&
    sameList(a.ips, b.ips) &&
    sameList(a.ports ?? [], b.ports ?? [])
  );
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((each, i) => each === b[i]);
}
