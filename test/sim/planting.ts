import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Edit } from "./plant.ts";

const root = resolve(import.meta.dirname, "../..");

/**
 * From now on the files of the edits are loaded with them: the plant is in the real source, and the
 * product knows nothing of it. Call before anything that imports these files.
 * @throws when a source does not have what is to be replaced.
 */
export function plantEdits(edits: readonly Edit[]): void {
  const applied = new Map<string, (source: string) => string>();
  for (const file of new Set(edits.map((edit) => edit.file)))
    applied.set(resolve(root, file), (source) =>
      edits.filter((edit) => edit.file === file).reduce(applyEdit, source),
    );
  // Now, and not when a run loads them: that must not look like a bug that was found.
  for (const [path, change] of applied) change(readFileSync(path, "utf8"));
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context);
      const change = url.startsWith("file:") ? applied.get(fileURLToPath(url)) : undefined;
      if (change === undefined || loaded.source === undefined || loaded.source === null)
        return loaded;
      return { ...loaded, source: change(textOf(loaded.source)) };
    },
  });
}

/** @throws when the source does not have the text exactly once: a plant must not quietly do nothing. */
export function applyEdit(source: string, { file, from, to }: Edit): string {
  const count = source.split(from).length - 1;
  if (count !== 1) throw new Error(`${file} has ${count} times what is to be replaced:\n${from}`);
  return source.replace(from, () => to);
}

function textOf(source: string | ArrayBuffer | NodeJS.TypedArray): string {
  if (typeof source === "string") return source;
  return new TextDecoder().decode(source);
}
