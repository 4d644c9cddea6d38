import { existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { OverlayError } from "../../../shared/errors.ts";
import type { PeerChange } from "../../core/keys/wireguard.ts";
import { linkNamed } from "../../kernel/netlink/dumps.ts";
import * as route from "../../kernel/netlink/route.ts";
import { errnoName } from "../../kernel/errno.ts";
import { RtNetlink } from "../../kernel/netlink/socket.ts";
import type { WireguardDevice } from "../../kernel/netlink/wireguard.ts";
import { inNetns } from "../../kernel/netns.ts";
import { type DeviceDriver, needingPort, portTaken } from "./device.ts";
import { Secret } from "../secret.ts";
import type { Transport } from "./transport.ts";
import * as uapi from "./uapi.ts";
import { uapiSocket, type WireguardProcess } from "./go-process.ts";
import { wireguardPublicKey } from "./keys.ts";

const START_TIMEOUT_MS = 30_000;
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
      const pid = await this.#process.start();
      const { index } = await waitFor("wireguard-go did not start", async () =>
        (await this.#answers()) ? linkNamed(host, this.#name) : undefined,
      );
      await host.request(route.setMtu(index, mtuBytes));
      await this.#heard(pid);
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

  /** It opens its socket when it finds the interface up, and tells nobody when it gets none. */
  async setIdentity(privateKey: Secret, listenPort: number): Promise<void> {
    const held = await this.read();
    if (held.listenPort !== listenPort && this.#isBound(listenPort)) throw portTaken(listenPort);
    const question = uapi.setIdentity(privateKey.reveal(), listenPort);
    await needingPort(listenPort, this.#ask(question, "set identity"));
  }

  async change(changes: readonly PeerChange[]): Promise<void> {
    if (changes.length > 0)
      await this.#ask(uapi.changePeers(changes), `set ${changes.length} peers`);
  }

  /** It looks at its interface once a second. */
  async up({ index }: route.Link, mtuBytes: number, listenPort: number): Promise<void> {
    await this.#transport.socket.request(route.setUp(index, mtuBytes));
    await waitFor("wireguard-go did not open its UDP socket", () =>
      this.#isBound(listenPort) ? true : undefined,
    );
  }

  /** Until its UDP socket is closed: who comes next may need the port. */
  async unmake(): Promise<void> {
    if (!existsSync(uapiSocket(this.#name))) return;
    const port = await this.read().then(
      ({ listenPort }) => listenPort,
      () => undefined,
    );
    await this.#process.stop();
    await this.#transport.deleteLink(this.#name);
    if (port !== undefined)
      await waitFor("wireguard-go did not end", () => (this.#isBound(port) ? undefined : true));
  }

  close(): void {}

  /**
   * It reads its MTU when the kernel tells it of a change, and says nothing: when its netlink queue
   * is empty, and it has answered once more, it has.
   */
  async #heard(pid: number): Promise<void> {
    await waitFor(
      "wireguard-go does not hear of its MTU",
      () => this.#queued(pid) === 0 || undefined,
    );
    await this.#answers();
  }

  /** /proc/net/netlink: bytes not read yet by the process's first socket of family 0. */
  #queued(pid: number): number | undefined {
    const lines = inNetns(this.#hostNetns, () =>
      readFileSync("/proc/thread-self/net/netlink", "utf8").split("\n"),
    );
    const fields = lines.map((line) => line.trim().split(/\s+/));
    const own = fields.find(([, family, portId]) => family === "0" && portId === String(pid));
    return own === undefined ? undefined : Number(own[4]);
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
        if (answer.errno !== 0) return failed(errnoName(answer.errno));
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
        next: "run `wireguard-go --foreground test0` to see what it lacks; it needs /dev/net/tun",
      });
    await delay(POLL_MS);
  }
}

function refused(op: string, why: string): OverlayError {
  const message = `wireguard-go refused ${op}: ${why}`;
  return new OverlayError({ code: "NETLINK", op: `wireguard-go ${op}`, errno: why, message });
}
