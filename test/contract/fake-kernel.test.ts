import { beforeEach, describe } from "vitest";
import { FakeKernel } from "../fakes/fake-kernel.ts";
import { kernelContract } from "./kernel-contract.ts";

describe("the kernel in memory", () => {
  let kernel: FakeKernel;
  beforeEach(() => {
    kernel = new FakeKernel();
  });
  kernelContract(
    () => kernel,
    (network, endpoint) => kernel.leaveUnfinished(network, endpoint),
    (network) => kernel.spoil(network),
  );
});
