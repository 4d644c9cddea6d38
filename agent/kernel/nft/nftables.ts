import koffi, { type KoffiFunc, type LibraryHandle } from "koffi";
import { OverlayError } from "../../../shared/errors.ts";
import { makeRoomBelow, reserveBelow } from "./low-descriptors.ts";

/** In the package `libnftables1`, which nftables itself depends on. */
const LIBRARY = "libnftables.so.1";
/** NFT_CTX_DEFAULT and NFT_CTX_OUTPUT_JSON of nftables/libnftables.h. */
const DEFAULT = 0;
const JSON_OUTPUT = 1 << 4;

/**
 * It waits with select(2) (mnl_batch_talk of nftables' src/mnl.c), which ends the process at a
 * descriptor of FD_SETSIZE, 1024, or more. Some room: other threads open files meanwhile.
 */
const HIGHEST_DESCRIPTOR = 900;

type Context = unknown;

interface Library {
  readonly create: (flags: number) => Context;
  readonly free: KoffiFunc<(context: Context) => void>;
  readonly keepOutput: (context: Context) => number;
  readonly keepErrors: (context: Context) => number;
  readonly setFlags: (context: Context, flags: number) => void;
  readonly run: (context: Context, script: string) => number;
  readonly output: (context: Context) => string;
  readonly errors: (context: Context) => string;
}

let loaded: Library | undefined;

/** Only when it is needed: a host without containers, or without nftables, has no use of it. */
function library(): Library {
  if (loaded !== undefined) return loaded;
  let nftables: LibraryHandle;
  try {
    nftables = koffi.load(LIBRARY);
  } catch (cause) {
    throw new OverlayError(
      {
        code: "UNSUPPORTED",
        message: `${LIBRARY} cannot be loaded`,
        next: "install nftables: `apt-get install nftables`",
      },
      { cause },
    );
  }
  loaded = {
    create: nftables.func("void *nft_ctx_new(uint32_t flags)"),
    free: nftables.func("void nft_ctx_free(void *context)"),
    keepOutput: nftables.func("int nft_ctx_buffer_output(void *context)"),
    keepErrors: nftables.func("int nft_ctx_buffer_error(void *context)"),
    setFlags: nftables.func("void nft_ctx_output_set_flags(void *context, uint32_t flags)"),
    run: nftables.func("int nft_run_cmd_from_buffer(void *context, const char *script)"),
    output: nftables.func("const char *nft_ctx_get_output_buffer(void *context)"),
    errors: nftables.func("const char *nft_ctx_get_error_buffer(void *context)"),
  };
  return loaded;
}

/**
 * nftables in this very thread (libnftables(3)), for the namespace in which it is made: a millisecond,
 * where the program takes 25. Between `inNetns` and its end, as what is made there.
 */
export class Nftables {
  readonly #context: Context;
  #deleted = false;

  /** @throws UNSUPPORTED, FULL */
  constructor() {
    if (!makeRoomBelow(HIGHEST_DESCRIPTOR))
      throw new OverlayError({
        code: "FULL",
        message: "the agent has too many files open to change rules of nftables",
        next: "raise the service's LimitNOFILE=; in containers Docker's resolver answers until some are closed",
      });
    const { create, keepErrors, keepOutput } = library();
    const context = create(DEFAULT);
    if (context === null) throw refused("begin", "no memory");
    keepErrors(context);
    keepOutput(context);
    this.#context = context;
  }

  /** One transaction. @throws NETLINK, `errno` EEXIST for what was to be made and is there. */
  run(script: string, op: string): void {
    const { run, errors } = library();
    if (/^(delete|flush) /m.test(script)) this.#deleted = true;
    if (run(this.#context, script) !== 0) throw refused(op, errors(this.#context));
  }

  /** As nft prints it, or as its JSON; undefined: it is not there. */
  list(table: string, as: "text" | "json" = "text"): string | undefined {
    const { run, setFlags, output } = library();
    setFlags(this.#context, as === "json" ? JSON_OUTPUT : DEFAULT);
    return run(this.#context, `list table ${table}`) === 0 ? output(this.#context) : undefined;
  }

  /** All that there are, as JSON. @throws NETLINK */
  chains(): string {
    const { setFlags, output } = library();
    setFlags(this.#context, JSON_OUTPUT);
    this.run("list chains", "list chains");
    return output(this.#context);
  }

  /**
   * Closing a netlink socket while what was deleted is not freed yet, a table or a rule, waits for an RCU grace period,
   * 12-18 ms (nft_rcv_nl_event of net/netfilter/nf_tables_api.c): that is left to another thread.
   */
  close(): void {
    const { free } = library();
    if (this.#deleted) free.async(this.#context, () => reserveDescriptors());
    else {
      free(this.#context);
      reserveDescriptors();
    }
  }
}

/** So that there is one yet when all below are in use. */
export function reserveDescriptors(): void {
  reserveBelow(HIGHEST_DESCRIPTOR);
}

export function refused(op: string, why: string): OverlayError {
  const line = why.trim().split("\n")[0] ?? "";
  return new OverlayError({
    code: "NETLINK",
    op: `nft ${op}`,
    message: `nftables refused (${op}): ${line}`,
    ...(/File exists/.test(line) ? { errno: "EEXIST" } : {}),
    next: "check that nftables is installed and the kernel has nf_tables and nft_tproxy",
  });
}
