import { createServer, connect, type Server, type Socket } from "node:net";
import { join } from "node:path";
import type { LabHost } from "./lab-host.ts";

/** Between an agent and its engine: all goes through, but for the stream of events when it is told so. */
export class EventCutter {
  /** The socket, as the host's processes see it. */
  readonly path = "/run/cut.sock";
  /** Who asks for events is cut off. */
  deaf = false;
  /** Their connection stays open and says nothing. */
  silent = false;
  readonly #streams = new Set<Socket>();
  readonly #all = new Set<Socket>();
  readonly #server: Server;
  readonly #host: LabHost;

  constructor(host: LabHost) {
    this.#host = host;
    this.#server = createServer((client) => this.#serve(client));
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) =>
      this.#server.listen(join(this.#host.directory, "run/cut.sock"), resolve),
    );
  }

  cut(): void {
    for (const stream of this.#streams) stream.destroy();
  }

  stop(): void {
    for (const socket of this.#all) socket.destroy();
    this.#server.close();
  }

  #serve(client: Socket): void {
    const engine = connect(join(this.#host.directory, "run/docker.sock"));
    let events = false;
    for (const socket of [client, engine]) {
      this.#all.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        for (const end of [client, engine]) {
          end.destroy();
          this.#all.delete(end);
          this.#streams.delete(end);
        }
      });
    }
    client.once("data", (first) => {
      events = first.toString("latin1").startsWith("GET /events");
      if (events) this.#streams.add(client);
      if (events && this.deaf) client.destroy();
    });
    client.on("data", (bytes) => engine.write(bytes));
    engine.on("data", (bytes) => {
      if (!events || !this.silent) client.write(bytes);
    });
  }
}
