import { hash } from "node:crypto";
import { toBase64Url } from "../../shared/base64url.ts";
import type { ClusterState, SignedState } from "../../shared/cluster-state.ts";
import { equalBytes } from "../../shared/codec.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import { nodeIdOf } from "../../shared/node-id.ts";
import type { Hasher, Random, Signer, Verifier } from "../../shared/ports.ts";
import type { StateHead } from "../../shared/state/head.ts";
import { changeBetween, stateOf } from "../../shared/state/objects.ts";
import { heldUnder } from "../../shared/state/whole.ts";

/** SHA-256 in one call, which for some hundred bytes is much cheaper than a hash object. */
export const oneShotSha256: Hasher = {
  sha256: (...parts) => digest(parts.length === 1 ? parts[0]! : Buffer.concat(parts)),
};

function digest(bytes: Uint8Array): Uint8Array {
  const made: Uint8Array = hash("sha256", bytes, "buffer");
  return new Uint8Array(made.buffer, made.byteOffset, made.length);
}

/**
 * In the place of Ed25519: a hash keyed by a secret of the signer that only this object knows. Who has
 * no `Signer` of a host cannot sign for it, as with the real one; a test says so.
 */
export class SimKeys {
  readonly #secrets = new Map<string, Uint8Array>();
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  /** A new identity. */
  mint(): NodeId {
    const node = nodeIdOf(this.#random.bytes(32));
    this.#secrets.set(node, this.#random.bytes(32));
    return node;
  }

  signer(node: NodeId): Signer {
    return { sign: (message) => this.#signature(node, message) };
  }

  readonly verifier: Verifier = {
    verify: (node, message, signature) =>
      this.#secrets.has(node) && equalBytes(this.#signature(node, message), signature),
  };

  #signature(node: string, message: Uint8Array): Uint8Array {
    const half = digest(Buffer.concat([this.#secrets.get(node)!, message]));
    const signature = new Uint8Array(64);
    signature.set(half);
    signature.set(half, 32);
    return signature;
  }
}

/**
 * In the place of the chain of trust (shared/trust.ts): what was signed is known by its text, and any
 * other text is refused. `paddingBytes` makes states as long as large clusters' are, so that they are
 * announced and fetched.
 */
export class SimTrust {
  readonly #states = new Map<string, ClusterState>();
  readonly #byRevision = new Map<number, readonly ClusterState[]>();
  readonly #heads = new Map<string, StateHead>();
  #lastRead: { readonly jws: string; content: string; state: ClusterState } | undefined;
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  sign(state: ClusterState, paddingBytes: number): SignedState {
    const seal = Buffer.from(this.#random.bytes(12)).toString("hex");
    const jws = `${state.revision}.${seal}.${"x".repeat(paddingBytes)}`;
    this.#states.set(jws, state);
    this.decided(state);
    return { jws, controllerCertificate: "" };
  }

  /** It is signed in whatever form somebody asks for. */
  decided(state: ClusterState): void {
    const others = this.#byRevision.get(state.revision) ?? [];
    if (!others.includes(state)) this.#byRevision.set(state.revision, [...others, state]);
  }

  /** With its payload where a compact JWS has it. */
  signHead(head: StateHead): string {
    const seal = Buffer.from(this.#random.bytes(12)).toString("hex");
    const jws = `${seal}.${toBase64Url(new TextEncoder().encode(JSON.stringify(head)))}.`;
    this.#heads.set(jws, head);
    return jws;
  }

  /** @throws UNAUTHENTICATED */
  verify({ jws, content }: SignedState): ClusterState {
    if (content !== undefined) {
      // What many hosts read is read once.
      if (this.#lastRead?.jws === jws && this.#lastRead.content === content)
        return this.#lastRead.state;
      const head = this.verifyHead({ jws });
      const state = stateOf(head, heldUnder(head, content, oneShotSha256).objects.entries());
      this.#lastRead = { jws, content, state };
      return state;
    }
    const state = this.#states.get(jws);
    if (state !== undefined) return state;
    throw notSigned();
  }

  /** @throws UNAUTHENTICATED */
  verifyHead({ jws }: Pick<SignedState, "jws">): StateHead {
    const head = this.#heads.get(jws);
    if (head !== undefined) return head;
    throw notSigned();
  }

  /** Whether some controller signed just this, in whatever order its lists are. */
  isSigned(state: ClusterState): boolean {
    return (this.#byRevision.get(state.revision) ?? []).some((signed) => {
      const { put, drop } = changeBetween(signed, state);
      return put.length + drop.length === 0;
    });
  }
}

function notSigned(): OverlayError {
  return new OverlayError({ code: "UNAUTHENTICATED", message: "not signed by this cluster" });
}
