/**
 * Loaded before anything else by `npm start`: says in one sentence what is wrong when the Node that runs it is too old to
 * read TypeScript. Plain old JavaScript, because a Node that is too old must be able to run it.
 */
'use strict';

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  process.stderr.write(
    'Ringside needs Node 22.18 or newer; this is Node ' +
      process.versions.node +
      ' (' +
      process.execPath +
      ').\n' +
      'Normally `npm ci` installs Node 24 into node_modules and npm scripts use that one. It did not here: install scripts\n' +
      'are switched off (ignore-scripts). Run `npm rebuild node --ignore-scripts=false`, or use a newer Node.\n',
  );
  process.exit(1);
}
