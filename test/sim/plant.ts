/** One text of one file of the product, replaced when the file is loaded. */
export interface Edit {
  /** From the repository's root. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

export interface Plant {
  readonly name: string;
  /** The mistake, as a reviewer would call it. */
  readonly what: string;
  readonly edits: readonly Edit[];
}
