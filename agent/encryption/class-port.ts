import type { Failure } from "../../shared/errors.ts";
import type { Paths } from "../core/data-plane/desired-network.ts";

/** Networks of one kind of encryption, as this host takes part in them. */
export interface EncryptionClass {
  /** State or host documents may say something else. */
  dirty(): void;
  /** Looks for changes that no event reported. */
  check(): void;
  /**
   * Hosts whose keys are in place, and no others. Undefined: this host has no part in the class now, or
   * does not know yet what an agent before it left: what stands is closed by itself, and stays.
   */
  paths(): Paths | undefined;
  /** What was dirty was tried; then why this host cannot take part, or undefined. */
  tried(): Promise<Failure | undefined>;
  failure(): Failure | undefined;
  /** Hosts on the network have paths, those that can; `timeoutMs` at most. */
  settled(timeoutMs: number): Promise<void>;
  /** The data plane goes on with the keys it has. */
  stop(): Promise<void>;
}
