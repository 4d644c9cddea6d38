/**
 * What the agent must find again after a crash: signed state, documents, own addresses, pools.
 * Keys are paths (`document/<network>/<node>`), values bytes of the codec in shared/codec.ts.
 */
export interface AgentStore {
  /** All entries whose key starts with `prefix`, in key order. */
  list(prefix: string): readonly { key: string; value: Uint8Array }[];
  get(key: string): Uint8Array | undefined;
  /** All of it or nothing; durable against a crash of the process when it returns. */
  write(changes: readonly Change[]): void;
  close(): void;
}

export type Change =
  | { readonly kind: "put"; readonly key: string; readonly value: Uint8Array }
  | { readonly kind: "delete"; readonly key: string };
