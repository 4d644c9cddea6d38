import { rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";

/** A unix socket in front of another one, that can be cut: what is connected ends, and nobody gets in. */
export class CuttableSocket {
  readonly #path: string;
  readonly #target: string;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;

  constructor(path: string, target: string) {
    this.#path = path;
    this.#target = target;
  }

  async mend(): Promise<void> {
    rmSync(this.#path, { force: true });
    const server = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ path: this.#target, allowHalfOpen: true });
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on("close", () => {
          this.#sockets.delete(socket);
          near.destroy();
          far.destroy();
        });
        socket.on("error", () => {});
      }
      near.pipe(far);
      far.pipe(near);
    });
    await new Promise<void>((resolve) => {
      server.listen(this.#path, resolve);
    });
    this.#server = server;
  }

  async cut(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
