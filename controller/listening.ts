import type { Failure } from "../shared/errors.ts";
import type { Ip } from "../shared/ip.ts";
import type { ClusterState } from "../shared/cluster-state.ts";
import type { ControlServer } from "./wire/server.ts";

export interface ListeningModules {
  readonly state: () => Promise<ClusterState>;
  /** Not started. */
  readonly make: (address: Ip, port: number) => Pick<ControlServer, "start" | "stop">;
  /** Whether this host has the address. */
  readonly has: (ip: Ip) => boolean;
}

/** The controller's port, where the state says that it is: that may change, or be no address of this host. */
export class Listening {
  readonly #modules: ListeningModules;
  #server: { readonly at: Ip; readonly server: Pick<ControlServer, "start" | "stop"> } | undefined;
  #failure: Failure | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(modules: ListeningModules) {
    this.#modules = modules;
  }

  /** Why no host reaches it. */
  failure(): Failure | undefined {
    return this.#failure;
  }

  /** To be called with each new state, and now and then. @throws PORT_TAKEN */
  follow(): Promise<void> {
    this.#last = this.#last.catch(() => {}).then(() => this.#follow());
    return this.#last;
  }

  async stop(): Promise<void> {
    await this.#last.catch(() => {});
    await this.#server?.server.stop();
    this.#server = undefined;
  }

  async #follow(): Promise<void> {
    const { state, make, has } = this.#modules;
    const { controller, settings } = await state();
    const { address } = controller;
    // A socket outlives its address, and hears again when that comes back.
    this.#failure = has(address) ? undefined : gone(address);
    if (this.#server?.at === address || this.#failure !== undefined) return;
    await this.#server?.server.stop();
    this.#server = undefined;
    const server = make(address, settings.ports.controller);
    await server.start();
    this.#server = { at: address, server };
  }
}

function gone(address: Ip): Failure {
  return {
    code: "UNREACHABLE",
    message: `the controller's address ${address} is on none of this host's interfaces: no host reaches it`,
    next: "`overlay-ts node readdress` here takes the one that it has now; or give it the old one again",
  };
}
