import { readEnvironment } from "../../../agent/cli/environment.ts";
import { parseMembership } from "../../../agent/membership/membership-files.ts";
import { decodeRecord } from "../../../controller/encoded-record.ts";
import { formatToken, parseToken } from "../../../shared/token.ts";
import { recordings } from "../../fixtures/recordings.ts";
import { hold, refusing, type Target } from "../target.ts";

const lines = (input: Uint8Array): string[] => new TextDecoder().decode(input).split("\n");

/** Lines `NAME=value` of the environment: a variable of ours is right, or named. */
export function environment(): Promise<Target> {
  const texts = [
    "OVERLAY_TS_DATA_DIR=/var/lib/overlay-ts\nOVERLAY_TS_LOG_LEVEL=debug\nHOME=/root",
    "OVERLAY_TS_RUN_DIR=/run/overlay-ts\nOVERLAY_TS_PATIENCE_MS=2000\nOVERLAY_TS_TOKEN=ovt1.x",
  ];
  return Promise.resolve({
    decoder: "readEnvironment",
    recorded: texts.map((text) => new TextEncoder().encode(text)),
    feed: (input) =>
      refusing(() => {
        const pairs = lines(input).map((line) => line.split("=", 2));
        const read = readEnvironment(
          Object.fromEntries(pairs.map(([name = "", value = ""]) => [name, value])),
        );
        hold(read.dataDirectory.startsWith("/"), "a data directory that depends on where we are");
      }),
  });
}

/** The file that makes a host a member. */
export async function membership(): Promise<Target> {
  return {
    decoder: "parseMembership",
    recorded: Object.values((await recordings()).membership),
    form: "json",
    feed: (input) => refusing(() => void parseMembership("membership.json", input)),
  };
}

/** The controller's record, as its database holds it. */
export async function controllerRecord(): Promise<Target> {
  return {
    decoder: "decodeRecord",
    recorded: Object.values((await recordings()).controllerRecord),
    form: "json",
    feed: (input) => refusing(() => void decodeRecord(input)),
  };
}

/** What a person pastes: taken is what it says, and a refusal does not repeat it. */
export async function token(): Promise<Target> {
  return {
    decoder: "parseToken",
    recorded: Object.values((await recordings()).token),
    feed: (input) => {
      const text = new TextDecoder().decode(input);
      return refusing(() => {
        const parsed = parseToken(text);
        const again = parseToken(formatToken(parsed));
        hold(again.id === parsed.id && again.cluster === parsed.cluster, "it says two things");
      });
    },
  };
}
