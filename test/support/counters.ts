import type { ClusterCounters } from "../../agent/core/tables/cluster-output.ts";

export function newCounters(): ClusterCounters {
  return {
    parsed: 0,
    merged: 0,
    malformed: 0,
    otherVersion: 0,
    badSignature: 0,
    badState: 0,
    followed: 0,
    misfits: 0,
    forks: 0,
    caughtUp: 0,
    hashBytes: 0,
    objects: 0,
    objectBytes: 0,
    notMembers: 0,
    overtaken: 0,
    timeouts: 0,
  };
}
