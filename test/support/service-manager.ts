import { type ChildProcess, spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { join } from "node:path";
import koffi from "koffi";
import { socketAddress } from "../../shared/node/notify-socket.ts";

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const bind = libc.func("int bind(int fd, const void *address, uint32_t length)");
const iovec = koffi.struct({ base: "uint8_t *", length: "size_t" });
const msghdr = koffi.struct({
  name: "uint8_t *",
  nameLength: "uint32_t",
  iov: koffi.pointer(iovec),
  iovLength: "size_t",
  control: "uint8_t *",
  controlLength: "size_t",
  flags: "int",
});
const recvmsg = libc.func("recvmsg", "long", ["int", koffi.inout(koffi.pointer(msghdr)), "int"]);

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const MSG_DONTWAIT_CLOEXEC = 0x40 | 0x40000000;
const LOOK_MS = 2;

export interface Stored {
  readonly name: string;
  readonly fd: number;
}

/**
 * What systemd does for a service with FileDescriptorStoreMax=, and no more of it: takes messages of
 * sd_notify(3), keeps descriptors, hands them to the next process (sd_listen_fds(3)).
 */
export class ServiceManager {
  readonly address: string;
  /** In the order that they came. */
  readonly messages: string[] = [];
  readonly store: Stored[] = [];
  readonly #fd: number;
  readonly #timer: NodeJS.Timeout;

  constructor(directory: string) {
    this.address = join(directory, "notify");
    this.#fd = socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0) as number;
    const to = socketAddress(this.address);
    if ((bind(this.#fd, to, to.length) as number) !== 0) throw new Error("bind");
    this.#timer = setInterval(() => this.read(), LOOK_MS);
  }

  /** Starts the service's next process. The shell knows the process id before the program does. */
  start(program: string, environment: Readonly<Record<string, string>> = {}): ChildProcess {
    const names = this.store.map(({ name }) => name);
    const script = 'LISTEN_PID=$$ exec "$0" --disable-warning=ExperimentalWarning "$@"';
    return spawn("/bin/sh", ["-c", script, process.execPath, program], {
      stdio: ["ignore", "pipe", "inherit", ...this.store.map(({ fd }) => fd)],
      env: {
        ...process.env,
        NOTIFY_SOCKET: this.address,
        LISTEN_FDS: String(names.length),
        LISTEN_FDNAMES: names.join(":"),
        ...environment,
      },
    });
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const { fd } of [{ fd: this.#fd }, ...this.store.splice(0)]) closeSync(fd);
  }

  /** Takes what has come. It also looks by itself. */
  read(): void {
    for (let message = this.#receive(); message !== undefined; message = this.#receive()) {
      this.messages.push(message.text);
      const said = new Map(
        message.text.split("\n").map((line) => line.split("=") as [string, string]),
      );
      const name = said.get("FDNAME") ?? "stored";
      if (said.has("FDSTOREREMOVE"))
        for (const stored of this.store.filter((one) => one.name === name)) {
          closeSync(stored.fd);
          this.store.splice(this.store.indexOf(stored), 1);
        }
      // The newest first, as service_add_fd_store() of systemd's service.c.
      if (said.has("FDSTORE")) this.store.unshift(...message.fds.map((fd) => ({ name, fd })));
      else for (const fd of message.fds) closeSync(fd);
    }
  }

  #receive(): { readonly text: string; readonly fds: readonly number[] } | undefined {
    const bytes = Buffer.alloc(4096);
    const control = Buffer.alloc(64);
    const message = {
      name: null,
      nameLength: 0,
      iov: { base: bytes, length: bytes.length },
      iovLength: 1,
      control,
      controlLength: control.length,
      flags: 0,
    };
    const length = recvmsg(this.#fd, message, MSG_DONTWAIT_CLOEXEC) as number;
    if (length < 0) return undefined;
    const end = message.controlLength === 0 ? 0 : Number(control.readBigUInt64LE(0));
    const fds: number[] = [];
    for (let at = 16; at + 4 <= end; at += 4) fds.push(control.readInt32LE(at));
    return { text: bytes.toString("utf8", 0, length), fds };
  }
}
