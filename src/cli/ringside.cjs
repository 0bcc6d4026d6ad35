#!/usr/bin/env node
/**
 * The command `ringside`: goes on under the Node that package.json pins, whatever Node the system has. Plain old JavaScript,
 * because a Node that is too old for the sources must be able to run it.
 */
'use strict';
const { existsSync, realpathSync } = require('node:fs');
const { join } = require('node:path');
const { pathToFileURL } = require('node:url');

const root = join(__dirname, '..', '..');
const windows = process.platform === 'win32';
const pinned = join(root, 'node_modules', 'node', 'bin', windows ? 'node.exe' : 'node');

if (!existsSync(pinned) || realpathSync(pinned) === realpathSync(process.execPath)) {
  require('../server/node-version.cjs');
  require('../server/compile-cache.cjs');
  import(pathToFileURL(join(__dirname, 'main.ts')).href).catch((error) => {
    console.error(error);
    process.exit(70);
  });
} else {
  const { spawn } = require('node:child_process');
  const child = spawn(pinned, [__filename, ...process.argv.slice(2)], { stdio: 'inherit' });
  // A terminal's signals reach both; others reach this one only.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('error', (error) => {
    console.error(error.message);
    process.exit(70);
  });
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}
