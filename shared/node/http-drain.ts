import type { Server, ServerResponse } from "node:http";

/** Ends an HTTP server after the requests under way, whatever connections its clients keep open. */
export class HttpDrain {
  readonly #server: Server;
  readonly #underWay = new Set<ServerResponse>();

  constructor(server: Server) {
    this.#server = server;
    // First, so that a request that is answered in the same breath is seen as well.
    server.prependListener("request", (_request, response) => {
      this.#underWay.add(response);
      response.once("close", () => this.#underWay.delete(response));
    });
  }

  /**
   * Connections that never carried a request do not count as idle (node:http), and a Go client opens
   * such ones: `close` alone would wait for them for ever.
   */
  async end(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const response of this.#underWay) {
      if (!response.headersSent) response.setHeader("connection", "close");
      await new Promise((resolve) => response.once("close", resolve));
    }
    this.#server.closeAllConnections();
    await closed;
  }
}
