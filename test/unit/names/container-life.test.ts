import { expect, test } from "vitest";
import {
  applyDetails,
  applyEvent,
  newContainer,
  outReason,
  TERM,
} from "../../../agent/core/names/container-life.ts";
import type {
  ContainerDetails,
  ContainerEvent,
} from "../../../agent/core/names/engine-containers.ts";

const STARTED_MS = 1000;
const details: ContainerDetails = {
  id: "0".repeat(64),
  name: "c1",
  hostname: "c1",
  checked: false,
  stopSignal: TERM,
  resolvers: false,
  published: [],
  ports: [],
  labels: {},
  state: "up",
  health: undefined,
  startedAtMs: STARTED_MS,
  sandbox: "/var/run/docker/netns/0123456789ab",
  connections: [],
};

const told = (atMs: number): ContainerEvent => ({
  kind: "container",
  action: "kill",
  container: details.id,
  attributes: { signal: "15" },
  atMs,
});

test.each([
  [
    "of the run before, which is heard after this one was looked at, is none",
    STARTED_MS - 1,
    undefined,
  ],
  ["in the moment of the start is of this run", STARTED_MS, "stopping"],
])("a signal %s", (_, atMs, out) => {
  const life = newContainer();
  applyDetails(life, details, () => false);
  applyEvent(life, told(atMs));
  expect(outReason(life)).toBe(out);
});
