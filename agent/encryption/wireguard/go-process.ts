import { execFile } from "node:child_process";
import { accessSync, constants, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { asFailure, OverlayError } from "../../../shared/errors.ts";
import { startProgram } from "../../../shared/node/start-program.ts";

const run = promisify(execFile);

/** Fixed in wireguard-go: `<device>.sock`, of the root user alone. */
const SOCKETS = "/run/wireguard";
const PROGRAM = "wireguard-go";

export function uapiSocket(device: string): string {
  return join(SOCKETS, `${device}.sock`);
}

/** The process that runs one device; it lives as long as the device should, not as long as the agent. */
export interface WireguardProcess {
  /** Its process id. One that runs by itself already is left to run. @throws UNSUPPORTED */
  start(): Promise<number>;
  stop(): Promise<void>;
}

/** A unit of its own where there is systemd: what the agent starts itself would end with its unit. */
export function wireguardProcess(device: string, hostNetns: string | undefined): WireguardProcess {
  return existsSync("/run/systemd/system") && hostNetns === undefined
    ? new UnitProcess(device)
    : new DetachedProcess(device, hostNetns);
}

class UnitProcess implements WireguardProcess {
  readonly #unit: string;

  constructor(device: string) {
    this.#unit = `overlay-ts-wireguard@${device}.service`;
  }

  async start(): Promise<number> {
    requireProgram();
    await this.#systemctl("start");
    return Number(await this.#systemctl("show", "--property=MainPID", "--value"));
  }

  async stop(): Promise<void> {
    await this.#systemctl("stop");
  }

  async #systemctl(...command: string[]): Promise<string> {
    try {
      return (await run("systemctl", [...command, this.#unit])).stdout.trim();
    } catch (cause) {
      const next = `see \`systemctl status ${this.#unit}\``;
      const { message } = asFailure(cause);
      throw new OverlayError({ code: "UNSUPPORTED", message, next }, { cause });
    }
  }
}

/** Without systemd: in a session of its own, with no parent to end with. */
class DetachedProcess implements WireguardProcess {
  readonly #device: string;
  readonly #netns: string | undefined;

  constructor(device: string, netns: string | undefined) {
    this.#device = device;
    this.#netns = netns;
  }

  async start(): Promise<number> {
    requireProgram();
    // One that an agent left which ended before it had taken its interface.
    await this.stop();
    const command = [PROGRAM, "--foreground", this.#device];
    const [file = "", ...args] =
      this.#netns === undefined ? command : ["nsenter", `--net=${this.#netns}`, ...command];
    return new Promise((resolve, reject) => {
      const child = startProgram(file, args, { detached: true, stdio: "ignore" }, reject);
      child?.once("spawn", () => {
        child.unref();
        resolve(child.pid ?? 0);
      });
    });
  }

  /** It watches for its socket to be taken away. */
  stop(): Promise<void> {
    rmSync(uapiSocket(this.#device), { force: true });
    return Promise.resolve();
  }
}

function requireProgram(): void {
  const directories = (process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin").split(":");
  if (directories.some((directory) => isProgram(join(directory, PROGRAM)))) return;
  throw new OverlayError({
    code: "UNSUPPORTED",
    message: "this host has no WireGuard: neither its kernel nor the program wireguard-go",
    next: "load the kernel's module, `modprobe wireguard`, or install the package wireguard-go",
  });
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
