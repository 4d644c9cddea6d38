/** One record, replaced whole by compare-and-set (SQLite here, etcd's transaction later). */
export interface ControllerStore {
  read(): Promise<StoredRecord | undefined>;
  /**
   * Durable when it resolves. False: somebody else wrote since `version` was read.
   * `version` 0: nothing was there. @throws STORE
   */
  write(version: number, bytes: Uint8Array): Promise<boolean>;
  close(): void;
}

export interface StoredRecord {
  /** Grows by one with each write. */
  readonly version: number;
  readonly bytes: Uint8Array;
}
