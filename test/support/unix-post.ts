import { type ClientRequest, request } from "node:http";
import { readAll } from "../../shared/node/unix-http.ts";

const MAX_BYTES = 16 << 20;

export interface Posted {
  readonly status: number;
  readonly text: string;
}

/** One POST on a unix socket, the answer as it is: Docker's Engine API, or the plugin as Docker calls it. */
export function post(socketPath: string, path: string, body?: unknown): Promise<Posted> {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-type": "application/json" };
    const asked: ClientRequest = request(
      { socketPath, method: "POST", path, headers },
      (response) => {
        readAll(response, MAX_BYTES).then(
          (bytes) => resolve({ status: response.statusCode ?? 0, text: bytes.toString() }),
          reject,
        );
      },
    );
    asked.on("error", reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
