import { extname } from "node:path";

/**
 * The file of a thread, beside its caller's: `.ts` among the sources, `.js` in the bundle (deploy/bundle.ts), where
 * all files lie in one directory.
 *
 * @param caller its `import.meta.url`.
 */
export function threadFile(name: string, caller: string): URL {
  return new URL(`${name}${extname(caller)}`, caller);
}
