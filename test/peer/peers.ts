/**
 * Tests that need a program of somebody else's. Where it is missing such a test skips and says which program, by name;
 * with CI=true it fails, so that a machine without peers never looks green.
 */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { test } from 'vitest';

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

export type PeerTest = (name: string, run: () => void | Promise<void>, timeout_ms?: number) => void;

/** `test` for what needs these programs. */
export function requirePeer(...programs: readonly string[]): PeerTest {
  const missing = programs.filter((program) => findProgram(program) === null);
  if (missing.length === 0) return (name, run, timeout_ms) => test(name, run, timeout_ms);
  const why = `${missing.join(', ')} not installed: npm run peers`;
  if (process.env['CI'] === 'true') {
    return (name) =>
      test(name, () => {
        throw new Error(why);
      });
  }
  return (name) => test(name, (context) => context.skip(why));
}
