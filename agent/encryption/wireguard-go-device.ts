import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { OverlayError } from "../../shared/errors.ts";
import type { PeerChange } from "../core/wireguard.ts";
import * as route from "../kernel/netlink/route.ts";
import { RtNetlink } from "../kernel/netlink/socket.ts";
import type { WireguardDevice } from "../kernel/netlink/wireguard.ts";
import { inNetns } from "../kernel/netns.ts";
import type { DeviceDriver } from "./device.ts";
import { Secret } from "./secret.ts";
import type { Transport } from "./transport.ts";
import * as uapi from "./uapi.ts";
import { uapiSocket, type WireguardProcess } from "./wireguard-go-process.ts";
import { wireguardPublicKey } from "./wireguard-keys.ts";

/** Starting a process, and its look once a second at whether the interface is up. */
const START_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 5000;
const POLL_MS = 20;

/**
 * WireGuard in a process, for kernels that have none. It makes its interface in the host's
 * namespace, where its UDP socket stays, and is told its MTU there: in another one it hears of no
 * change any more, and would send packets that do not fit.
 */
export class WireguardGoDevice implements DeviceDriver {
  readonly by = "wireguard-go";
  readonly #name: string;
  readonly #transport: Transport;
  readonly #hostNetns: string | undefined;
  readonly #process: WireguardProcess;

  constructor(
    name: string,
    transport: Transport,
    hostNetns: string | undefined,
    process: WireguardProcess,
  ) {
    this.#name = name;
    this.#transport = transport;
    this.#hostNetns = hostNetns;
    this.#process = process;
  }

  async make(mtuBytes: number): Promise<void> {
    const host = new RtNetlink(this.#hostNetns);
    try {
      // One that was started again after it died has made its interface already.
      let link = await linkOf(host, this.#name);
      if (link === undefined || !(await this.#answers())) {
        await this.#process.start();
        link = await this.#started(host);
      }
      const { index } = link;
      await host.request(route.setMtu(index, mtuBytes));
      await this.#transport.withFd((fd) => host.request(route.moveLink(index, this.#name, fd)));
    } finally {
      host.close();
    }
  }

  async read(): Promise<WireguardDevice> {
    return uapi.decodeDevice(await this.#ask(uapi.GET, "get"), (bytes) =>
      wireguardPublicKey(new Secret(bytes)),
    );
  }

  async setIdentity(privateKey: Secret, listenPort: number): Promise<void> {
    await this.#ask(uapi.setIdentity(privateKey.reveal(), listenPort), "set identity");
  }

  async change(changes: readonly PeerChange[]): Promise<void> {
    if (changes.length > 0)
      await this.#ask(uapi.changePeers(changes), `set ${changes.length} peers`);
  }

  async opened(listenPort: number): Promise<void> {
    await waitFor("wireguard-go did not open its UDP socket", () =>
      this.#isBound(listenPort) ? true : undefined,
    );
  }

  async unmake(): Promise<void> {
    await this.#process.stop();
    await this.#transport.deleteLink(this.#name);
  }

  close(): void {}

  #started(host: RtNetlink): Promise<route.Link> {
    return waitFor("wireguard-go did not start", async () =>
      (await this.#answers()) ? linkOf(host, this.#name) : undefined,
    );
  }

  async #answers(): Promise<boolean> {
    return this.#ask(uapi.GET, "get").then(
      () => true,
      () => false,
    );
  }

  /** One connection a question. Neither it nor the answer is in an error: both may hold keys. */
  #ask(question: string, op: string): Promise<uapi.UapiAnswer> {
    return new Promise((resolve, reject) => {
      let text = "";
      const socket = connect(uapiSocket(this.#name));
      const failed = (why: string): void => {
        socket.destroy();
        reject(refused(op, why));
      };
      socket.setEncoding("utf8").setTimeout(ANSWER_TIMEOUT_MS);
      socket.once("connect", () => socket.write(question));
      socket.once("timeout", () => failed("no answer"));
      socket.once("error", (error: NodeJS.ErrnoException) => failed(error.code ?? "no connection"));
      socket.once("end", () => failed("no answer"));
      socket.on("data", (chunk) => {
        const answer = uapi.decodeAnswer((text += String(chunk)));
        if (answer === undefined) return;
        if (answer.errno !== 0) return failed(`errno ${answer.errno}`);
        socket.destroy();
        resolve(answer);
      });
    });
  }

  /** /proc/net/udp: the local address and port, in hex, is the second field. */
  #isBound(port: number): boolean {
    const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
    return inNetns(this.#hostNetns, () =>
      ["udp", "udp6"].some((file) =>
        readFileSync(`/proc/thread-self/net/${file}`, "utf8")
          .split("\n")
          .some((line) => line.trim().split(/\s+/)[1]?.endsWith(suffix)),
      ),
    );
  }
}

async function linkOf(socket: RtNetlink, name: string): Promise<route.Link | undefined> {
  const links = (await socket.dump(route.dumpLinks)).map(route.decodeLink);
  return links.find((link) => link.name === name);
}

async function waitFor<T>(
  failure: string,
  attempt: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  const until = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const result = await attempt();
    if (result !== undefined) return result;
    if (performance.now() > until)
      throw new OverlayError({
        code: "TIMEOUT",
        message: failure,
        next: "run `wireguard-go --foreground test0` to see why; it needs /dev/net/tun",
      });
    await delay(POLL_MS);
  }
}

function refused(op: string, why: string): OverlayError {
  const message = `wireguard-go refused ${op}: ${why}`;
  return new OverlayError({ code: "NETLINK", op: `wireguard-go ${op}`, message });
}
