/**
 * Node runs the sources as they are, after it has blanked out the types. Vitest transforms them in another way, so a file
 * that only Vitest understands (a method called `declare`, say) would pass every other test and fail at the start.
 */
import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { filesBelow, ROOT } from '../tools/source.ts';

/** Runs in a Node of its own: parses each file, and runs none. */
const PARSE_ALL = `
  const { readFileSync } = require('node:fs');
  const { stripTypeScriptTypes } = require('node:module');
  const { SourceTextModule } = require('node:vm');
  for (const path of process.argv.slice(1)) {
    try {
      new SourceTextModule(stripTypeScriptTypes(readFileSync(path, 'utf8')), { identifier: path });
    } catch (error) {
      console.log(error.stack.split('\\n').slice(0, 3).join(' ') + ' in ' + path);
    }
  }
`;

test('plain Node can read every file that it has to run', () => {
  const files = ['src', 'grafana', 'test/bench', 'test/tools'].flatMap((folder) => filesBelow(folder, '.ts'));
  const runs = files.filter((path) => !path.endsWith('.d.ts') && !path.endsWith('.test.ts'));
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ['--no-warnings', '--experimental-vm-modules', '-e', PARSE_ALL, ...runs],
    { cwd: ROOT, encoding: 'utf8' },
  );
  expect(stdout.trim().split('\n').filter(Boolean)).toEqual([]);
  expect(status, stderr).toBe(0);
});
