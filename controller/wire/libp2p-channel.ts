import type { Connection, Stream } from "@libp2p/interface";
import { peerIdFromString } from "@libp2p/peer-id";
import { lpStream } from "@libp2p/utils";
import { multiaddr } from "@multiformats/multiaddr";
import type { Libp2p } from "libp2p";
import { BOUNDS } from "../../shared/bounds.ts";
import { NodeId } from "../../shared/ids.ts";
import {
  decodeVersions,
  noCommonVersion,
  protocolsOf,
  VERSIONS_BYTES,
  VERSIONS_PROTOCOL,
  WIRE_VERSIONS,
} from "../../shared/wire-version.ts";
import type { ControlChannel, ControllerAddress } from "./channel.ts";
import { channelFailure } from "./channel-failure.ts";
import { controlNode, HANDSHAKE_TIMEOUT_MS } from "./libp2p-node.ts";

const limits = { maxDataLength: BOUNDS.controlAnswerBytes };

/** The channel over libp2p: one connection, kept, and dialled again when it is gone. */
export class Libp2pChannel implements ControlChannel {
  readonly #seed: Uint8Array;
  readonly #versions: readonly number[];
  #node: Promise<Libp2p> | undefined;
  /** Under way, by its address: each request waits for it as long as it may, and the next one finds it further. */
  readonly #dialling = new Map<string, Promise<Connection>>();

  /** @param versions of the wire, the preferred first. */
  constructor(seed: Uint8Array, versions: readonly number[] = WIRE_VERSIONS) {
    this.#seed = seed;
    this.#versions = versions;
  }

  async exchange(
    to: ControllerAddress,
    request: Uint8Array,
    timeoutMs: number,
  ): Promise<{ bytes: Uint8Array; peer: NodeId }> {
    const signal = AbortSignal.timeout(timeoutMs);
    let stream: Stream | undefined;
    try {
      const connection = await this.#connect(to, signal);
      stream = await this.#open(connection, ["control"], signal);
      const framed = lpStream(stream, limits);
      await framed.write(request, { signal });
      const bytes = (await framed.read({ signal })).slice();
      await stream.close({ signal });
      return { bytes, peer: NodeId.parse(connection.remotePeer.toString()) };
    } catch (error) {
      stream?.abort(error as Error);
      throw channelFailure(error);
    }
  }

  async watch(
    to: ControllerAddress,
    heard: (bytes: Uint8Array) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const connection = await this.#connect(to, signal);
    const stream = await this.#open(connection, ["news", "watch"], signal);
    try {
      const framed = lpStream(stream, limits);
      for (;;) heard((await framed.read({ signal })).slice());
    } finally {
      stream.abort(new Error("no longer watched"));
    }
  }

  /** @throws UNSUPPORTED when the controller shares no version with us */
  async #open(
    connection: Connection,
    names: readonly ("control" | "news" | "watch")[],
    signal: AbortSignal,
  ): Promise<Stream> {
    try {
      const protocols = names.flatMap((name) => protocolsOf(name, this.#versions));
      return await connection.newStream(protocols, { signal });
    } catch (error) {
      if ((error as Error).name !== "UnsupportedProtocolError") throw error;
      const stream = await connection.newStream(VERSIONS_PROTOCOL, { signal });
      const framed = lpStream(stream, { maxDataLength: VERSIONS_BYTES });
      const theirs = decodeVersions((await framed.read({ signal })).subarray());
      stream.abort(new Error("told"));
      throw noCommonVersion("the controller", theirs, this.#versions);
    }
  }

  async close(): Promise<void> {
    await (await this.#node)?.stop();
  }

  async #connect(
    { address, port, peer }: ControllerAddress,
    signal: AbortSignal,
  ): Promise<Connection> {
    this.#node ??= controlNode(this.#seed, []);
    const node = await this.#node;
    const open = peer === undefined ? undefined : node.getConnections(peerIdFromString(peer))[0];
    if (open?.status === "open") return open;
    const family = address.includes(":") ? "ip6" : "ip4";
    const suffix = peer === undefined ? "" : `/p2p/${peer}`;
    return aborted(this.#dial(node, `/${family}/${address}/tcp/${port}${suffix}`), signal);
  }

  /** With a limit of its own: were it the request's, a handshake slower than that would be begun again for ever. */
  #dial(node: Libp2p, to: string): Promise<Connection> {
    const held = this.#dialling.get(to);
    if (held !== undefined) return held;
    const signal = AbortSignal.timeout(HANDSHAKE_TIMEOUT_MS);
    const dialling = node.dial(multiaddr(to), { signal });
    this.#dialling.set(to, dialling);
    const ended = (): void => void this.#dialling.delete(to);
    dialling.then(ended, ended);
    return dialling;
  }
}

/** @throws the signal's reason, when that is first */
async function aborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const late = Promise.withResolvers<never>();
  const abort = (): void => late.reject(signal.reason as Error);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
