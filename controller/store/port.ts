/**
 * One record as rows, each by its key, and a head whose version a write is compared with. A write carries what it changes, so
 * it fits SQLite's transaction here and one of etcd later.
 */
export interface ControllerStore {
  /** Undefined: nothing was written yet. @throws STORE */
  head(): Promise<StoreHead | undefined>;
  /** All of it, of one moment. @throws STORE */
  read(): Promise<StoredRecord | undefined>;
  /**
   * All of the changes and the head, or nothing; durable when it resolves. False: somebody else wrote since `version` was read.
   * `version` 0: nothing was there. @throws STORE
   */
  write(version: number, changes: RowChanges): Promise<boolean>;
  close(): void;
}

export interface StoreHead {
  /** Grows by one with each write. */
  readonly version: number;
  /** Another one with each write: a file that was put in its place is told from it. */
  readonly mark: string;
}

/** In the order in which the keys came. */
export type Rows = ReadonlyMap<string, Uint8Array>;

export interface StoredRecord extends StoreHead {
  readonly rows: Rows;
}

export interface RowChanges {
  readonly put: readonly (readonly [string, Uint8Array])[];
  readonly drop: readonly string[];
}
