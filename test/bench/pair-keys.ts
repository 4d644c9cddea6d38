import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  decodeKeyAnswer,
  decodeKeyRequest,
  encodeKeyMessage,
  type KeyRequest,
  SESSION_BYTES,
} from "../../agent/core/keys/ipsec-messages.ts";
import { DEFAULT_KEY_EXCHANGE_OPTIONS } from "../../agent/core/keys/ipsec-options.ts";
import { PAIR_KEY_BYTES } from "../../agent/core/keys/pair-key.ts";
import { FakeIpsec } from "../fakes/fake-ipsec.ts";
import { DEFAULT_IPSEC_TIMES, Ipsec } from "../../agent/encryption/ipsec/ipsec.ts";
import { LinuxIpsec } from "../../agent/encryption/ipsec/linux-ipsec.ts";
import { MeshKeyChannel } from "../../agent/encryption/ipsec/mesh-key-channel.ts";
import { encodeFrame } from "../../agent/kernel/netlink/codec.ts";
import { NETLINK } from "../../agent/kernel/netlink/raw-socket.ts";
import { Netlink, type Request } from "../../agent/kernel/netlink/socket.ts";
import { deleteSa, newSa } from "../../agent/kernel/netlink/xfrm.ts";
import { NodeId } from "../../shared/ids.ts";
import { Ip, numberToIp } from "../../shared/ip.ts";
import { systemClock, systemRandom } from "../../shared/node/system.ts";
import { silentLog } from "../../shared/ports.ts";
import { eventually } from "../support/lab-host.ts";
import { TestHosts } from "../support/hosts.ts";
import { round } from "./statistics.ts";

export interface PairKeys {
  readonly pairs: number;
  /** User and system time of this process, the peers' halves of the exchange included. */
  readonly cpuSeconds: number;
  readonly seconds: number;
  /** Without ESP it is asked something else with each step, and answers: what an SA costs it is missing. */
  readonly kernel: "holds the SAs" | "has no ESP";
}

const LOCAL = Ip.parse("198.51.100.1");
const UDP_PORT = 7950;
/** XFRM_MSG_GETSAINFO of linux/xfrm.h. */
const ASK_ANYTHING: Request = { op: "GETSAINFO", type: 0x23, flags: 0, parts: [Buffer.alloc(4)] };
const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/** A host that meets so many others at once: keys both ways, from the first question to the last report. */
export async function measurePairKeys(pairs: number): Promise<PairKeys> {
  const hosts = new TestHosts(1);
  const linux = new LinuxIpsec({
    local: LOCAL,
    udpPort: UDP_PORT,
    hostNetns: join(hosts.directory, "h1"),
  });
  const socket = new Netlink(join(hosts.directory, "h1"), NETLINK.xfrm);
  const can = await linux.check().then(
    () => true,
    () => false,
  );
  const peers = new Map(
    Array.from({ length: pairs }, (_, i) => [peerId(i), numberToIp(0xc6130001n + BigInt(i), 4)]),
  );
  const others = new Peers();
  // Sealed as over the mesh.
  const theirs = new MeshKeyChannel(() => Promise.reject(new Error("asks by itself")));
  theirs.serve((_, bytes) => Promise.resolve(others.answer(bytes)));
  const channel = new MeshKeyChannel((node, asked) => theirs.asked(node, asked));
  const ipsec = new Ipsec(
    { local: LOCAL, keys: DEFAULT_KEY_EXCHANGE_OPTIONS, ...DEFAULT_IPSEC_TIMES },
    {
      kernel: can ? linux : new WithoutEsp(socket),
      channel,
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
    },
  );
  try {
    const before = process.cpuUsage();
    const begunMs = performance.now();
    await ipsec.start(peers);
    await Promise.all([...peers.keys()].map((node) => others.ask(node, channel)));
    await eventually(60_000, "all keys", () => {
      const { installed, reported, given } = ipsec.counters();
      const done = installed >= pairs && reported >= pairs && given >= pairs;
      return done ? Promise.resolve() : Promise.reject(new Error(`${installed} of ${pairs}`));
    });
    const { user, system } = process.cpuUsage(before);
    return {
      pairs,
      cpuSeconds: round((user + system) / 1e6),
      seconds: round((performance.now() - begunMs) / 1000),
      kernel: can ? "holds the SAs" : "has no ESP",
    };
  } finally {
    await ipsec.stop();
    await linux.removeAll();
    await linux.close();
    socket.close();
    hosts.close();
  }
}

function peerId(i: number): NodeId {
  const digit = (value: number): string => ALPHABET[value % ALPHABET.length]!;
  const tail = digit(i) + digit(Math.floor(i / ALPHABET.length));
  return NodeId.parse(`12D3Koo${"z".repeat(43)}${tail}`);
}

/** The other hosts' cores, as far as this one can see them. */
class Peers {
  #spi = 256;
  readonly #session = systemRandom.bytes(SESSION_BYTES);

  answer(bytes: Uint8Array): Uint8Array {
    const request = decodeKeyRequest(bytes);
    const head = { v: 1, session: this.#session, made: 1 } as const;
    if (request.kind === "using") return encodeKeyMessage({ ...head, kind: "noted" });
    const asked = { session: request.session, n: request.n };
    const key = systemRandom.bytes(PAIR_KEY_BYTES);
    return encodeKeyMessage({ ...head, kind: "key", asked, spi: ++this.#spi, key });
  }

  /** As the peer does for its own direction; again while this host has not read its kernel yet. */
  async ask(node: NodeId, host: MeshKeyChannel): Promise<void> {
    const own = new MeshKeyChannel((_, asked) => host.asked(node, asked));
    const session = this.#session;
    for (let n = 1; ; n++) {
      const ask = encodeKeyMessage({ v: 1, kind: "ask", session, n });
      const answer = decodeKeyAnswer(await own.request(node, ask, 0));
      if (answer.kind === "key") {
        const { session: of, made, spi } = answer;
        const using: KeyRequest = { v: 1, kind: "using", session, of, made, spis: [spi] };
        await own.request(node, encodeKeyMessage(using), 0);
        return;
      }
      await delay(5);
    }
  }
}

/** Each message is made, and one that this kernel can answer is sent in its place. */
class WithoutEsp extends FakeIpsec {
  readonly #socket: Netlink;

  constructor(socket: Netlink) {
    super();
    this.#socket = socket;
  }

  override async put(...args: Parameters<FakeIpsec["put"]>): Promise<void> {
    await super.put(...args);
    const { type, flags, parts } = newSa(args[0], UDP_PORT, args[1]);
    encodeFrame(type, flags, 0, ...parts);
    await this.#socket.request(ASK_ANYTHING);
  }

  override async remove(...args: Parameters<FakeIpsec["remove"]>): Promise<void> {
    await super.remove(...args);
    for (const sa of args[0]) {
      const { type, flags, parts } = deleteSa(sa);
      encodeFrame(type, flags, 0, ...parts);
      await this.#socket.request(ASK_ANYTHING);
    }
  }
}

if (import.meta.main)
  process.stdout.write(
    `${JSON.stringify(await measurePairKeys(Number(process.argv[2] ?? 1000)))}\n`,
  );
