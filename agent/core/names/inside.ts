/** What the container alone sees. */
export interface Inside {
  /** What it calls others on that network, by canonical alias. */
  readonly links: Readonly<Record<string, string>>;
  /** Undefined: not known yet. */
  readonly outside: Outside | undefined;
}

/** What a container's other networks are to Docker's resolver. */
export interface Outside {
  /** One of Docker's own networks leads out. */
  readonly wayOut: boolean;
  /** `--dns`: its servers are asked from within, and reached where its networks lead. */
  readonly resolvers: boolean;
  /** The names of Docker's own networks that it is on. */
  readonly others: readonly string[];
}
