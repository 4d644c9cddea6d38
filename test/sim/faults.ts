/** How often each thing really happened: a run without them proves nothing. */
export function newFaultMix() {
  return {
    lost: 0,
    delayed: 0,
    duplicated: 0,
    reordered: 0,
    cutOff: 0,
    partitions: 0,
    oneWayPartitions: 0,
    /** One way between two hosts, until the end and beyond. */
    lastingOneWayCuts: 0,
    /** kill -9 of an agent; the containers and the kernel go on. */
    crashes: 0,
    /** Of these, in the midst of what one input asked for. */
    crashesBetween: 0,
    oldDisks: 0,
    emptyDisks: 0,
    /** The machine: its kernel and its containers are gone. */
    powerCuts: 0,
    /** Machines that stay off. */
    leftOff: 0,
    clones: 0,
    clockJumps: 0,
    kernelFailures: 0,
    neighboursLost: 0,
    controllerAway: 0,
    controllerRestored: 0,
    /** Two states of one revision, both signed. */
    forks: 0,
    evictions: 0,
    joins: 0,
    networksMade: 0,
    networksEnded: 0,
    started: 0,
    stopped: 0,
    /** Containers that went, and came on another host with the same address. */
    moved: 0,
    healthChanged: 0,
    vipsMade: 0,
    vipsEnded: 0,
    /** Of engines, to their agents. */
    eventsLost: 0,
    blocksReturned: 0,
    /** Starts that were refused or given up: no address, no controller, a clash. */
    refused: 0,
    lies: 0,
    /** Agents that were of 0.1.0 when they started. */
    oldVersions: 0,
  };
}

export type FaultMix = ReturnType<typeof newFaultMix>;
