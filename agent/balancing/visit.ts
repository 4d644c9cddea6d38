import { TABLE_NAME, TABLE_TO_LIST } from "../core/balancing/table-script.ts";
import { OverlayError } from "../../shared/errors.ts";
import { IMMEDIATE, ImmediateNetlink } from "../kernel/netlink/immediate.ts";
import { decodeGeneration, getGeneration, getTable } from "../kernel/netlink/nftables-state.ts";
import { inNetns } from "../kernel/netns.ts";
import { type ContainersNftables, nftablesOf } from "../kernel/nft/nft-program.ts";

/**
 * While what was deleted in a namespace is not freed yet, each socket of nfnetlink there waits for it at its end, 10-20 ms,
 * whatever it was used for (nft_rcv_nl_event of net/netfilter/nf_tables_api.c). By then it is freed.
 */
const CLOSE_AFTER_MS = 100;
/** Two descriptors each, of which nftables needs low ones: the oldest is closed when there are more, and waited for. */
const MOST_OPEN = 64;

const stillOpen = new Set<Visit>();

/** What is asked and written while this thread is in a client's namespace. */
export class Visit {
  #socket: ImmediateNetlink | undefined;
  #nftables: ContainersNftables | undefined;

  /** @throws NETLINK */
  get socket(): ImmediateNetlink {
    return (this.#socket ??= new ImmediateNetlink(IMMEDIATE.netfilter));
  }

  /** Of the namespace's rules. @throws NETLINK */
  generation(): number | undefined {
    const [answer] = this.socket.ask(getGeneration);
    return answer && decodeGeneration(answer);
  }

  /** @throws NETLINK */
  isTable(): boolean {
    try {
      this.socket.ask(getTable(TABLE_NAME));
      return true;
    } catch (error) {
      if (error instanceof OverlayError && error.errno === "ENOENT") return false;
      throw error;
    }
  }

  /** As nft's JSON; undefined: it is not there. @throws UNSUPPORTED, FULL */
  list(): string | undefined {
    return this.#library().list(TABLE_TO_LIST, "json");
  }

  /** One transaction. @throws NETLINK, UNSUPPORTED, FULL */
  run(script: string, op: string): void {
    this.#library().run(script, op);
  }

  close(): void {
    this.#socket?.close();
    this.#nftables?.close();
  }

  #library(): ContainersNftables {
    return (this.#nftables ??= nftablesOf(this.socket));
  }
}

/** @param close `now`: nobody has deleted anything there for a while. Else what is open stays so a moment. */
export function visit<T>(path: string, close: "now" | "later", work: (visit: Visit) => T): T {
  const visit = new Visit();
  try {
    return inNetns(path, () => work(visit));
  } finally {
    if (close === "now") visit.close();
    else closeLater(visit);
  }
}

function closeLater(visit: Visit): void {
  const end = (one: Visit): void => {
    if (stillOpen.delete(one)) one.close();
  };
  stillOpen.add(visit);
  const [oldest] = stillOpen;
  if (stillOpen.size > MOST_OPEN) end(oldest!);
  setTimeout(() => end(visit), CLOSE_AFTER_MS);
}
