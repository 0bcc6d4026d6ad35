/**
 * Tests that need a program of somebody else's. Where it is missing such a test skips and says which program, by name;
 * with CI=true it fails, so that a machine without peers never looks green.
 */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { beforeAll, test } from 'vitest';

/** Full path of a program on the PATH; null where there is none. */
export function findProgram(name: string): string | null {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not in this folder
    }
  }
  return null;
}

type Body = (name: string, run: () => void | Promise<void>, timeout_ms?: number) => void;
interface Before {
  /** vitest's beforeAll, for what starts these programs: where one is missing there is nothing to start. */
  readonly beforeAll: (run: () => Promise<void>, timeout_ms?: number) => void;
}
export type PeerTest = Body & Before;

/** `test` for what needs these programs. */
export function requirePeer(...programs: readonly string[]): PeerTest {
  const missing = programs.filter((program) => findProgram(program) === null);
  if (missing.length > 0) return missingPeer(missing.join(', '));
  return Object.assign<Body, Before>((name, run, timeout_ms) => test(name, run, timeout_ms), {
    beforeAll: (run, timeout_ms) => beforeAll(run, timeout_ms),
  });
}

/** `test` where `what` is not installed: each skips and says so, or fails with CI=true. */
export function missingPeer(what: string): PeerTest {
  const why = `${what} not installed: npm run peers`;
  const fails = process.env['CI'] === 'true';
  return Object.assign<Body, Before>(
    (name) =>
      test(name, (context) => {
        if (fails) throw new Error(why);
        context.skip(why);
      }),
    { beforeAll: () => {} },
  );
}
