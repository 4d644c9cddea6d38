import type { Ip } from "../../../shared/ip.ts";
import type { Asked } from "../../core/data-plane/kernel-state.ts";
import type { DataPathProof, ProbeResult } from "../../kernel/port.ts";
import type { WireguardTunnel } from "./port.ts";

/**
 * The tunnel is asked itself: a peer's address inside is its kernel's own, and answers echoes in every version. Nothing
 * stands for it but the tunnel, which is watched and mended by its class.
 */
export class WireguardProof implements DataPathProof<Asked> {
  readonly #tunnel: Pick<WireguardTunnel, "echo">;
  #mtuBytes = 0;

  constructor(tunnel: Pick<WireguardTunnel, "echo">) {
    this.#tunnel = tunnel;
  }

  set({ mtuBytes }: Asked): Promise<void> {
    this.#mtuBytes = mtuBytes;
    return Promise.resolve();
  }

  faults(): Promise<string[]> {
    return Promise.resolve([]);
  }

  onLoss(): void {}

  async probe(address: Ip, timeoutMs: number, bytes = this.#mtuBytes): Promise<ProbeResult> {
    return { address, roundTripMs: await this.#tunnel.echo(address, bytes, timeoutMs), bytes };
  }

  remove(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
