import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { Target } from "./target.ts";

/** What is recorded of real encoders, and `corpus/<target>/`: inputs made by hand, and what once failed. */
export function corpusOf(name: string, { recorded }: Target): Uint8Array[] {
  const directory = new URL(`corpus/${name}/`, import.meta.url);
  const files = existsSync(directory) ? readdirSync(directory).toSorted() : [];
  return [
    ...recorded,
    ...files.map((file) => new Uint8Array(readFileSync(new URL(file, directory)))),
  ];
}
