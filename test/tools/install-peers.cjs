/**
 * `npm run peers`: installs the programs that the peer tests run against, from the Debian packages. Needs apt and root (or
 * sudo without a password); says so where it has neither. Installs only what is missing. CommonJS, so that any Node runs it.
 */
'use strict';

const { spawnSync } = require('node:child_process');

/** Program, and the package it comes from. */
const PEERS = [
  { program: 'tshark', pkg: 'tshark' },
  { program: 'capinfos', pkg: 'wireshark-common' },
  { program: 'editcap', pkg: 'wireshark-common' },
  { program: 'mergecap', pkg: 'wireshark-common' },
  { program: 'luac5.4', pkg: 'lua5.4' },
  { program: 'prometheus', pkg: 'prometheus' },
  { program: 'promtool', pkg: 'prometheus' },
  { program: 'curl', pkg: 'curl' },
  { program: 'unzip', pkg: 'unzip' },
  { program: 'python3', pkg: 'python3-minimal' },
  { program: 'xmllint', pkg: 'libxml2-utils' },
  { program: 'docker-compose', pkg: 'docker-compose' },
  { program: 'ovs-vsctl', pkg: 'openvswitch-switch' },
  { program: 'ovs-vswitchd', pkg: 'openvswitch-switch' },
  { program: 'ovsdb-server', pkg: 'openvswitch-common' },
  { program: 'ovsdb-client', pkg: 'openvswitch-common' },
  { program: 'ovs-ofctl', pkg: 'openvswitch-common' },
  { program: 'ovs-appctl', pkg: 'openvswitch-common' },
  { program: 'osken-manager', pkg: 'python3-os-ken' },
  { program: 'nats-server', pkg: 'nats-server' },
  { program: 'openssl', pkg: 'openssl' },
];

const has = (program) => spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0;
const fail = (text) => {
  console.error(text);
  process.exit(1);
};
/** Runs one command with the terminal's output; true when it succeeded. */
function run(command, args) {
  console.log(`$ ${[command, ...args].join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'], env }).status === 0;
}

const missing = () => PEERS.filter((peer) => !has(peer.program));
const packages = [...new Set(missing().map((peer) => peer.pkg))];
if (packages.length === 0) {
  console.log(`All peer programs are here: ${PEERS.map((peer) => peer.program).join(', ')}.`);
  process.exit(0);
}
const wanted = packages.join(' ');
if (!has('apt-get')) {
  fail(`This machine has no apt-get. Install these yourself, by the names your system gives them: ${wanted}`);
}
const root = typeof process.getuid === 'function' && process.getuid() === 0;
const sudo = !root && has('sudo') && spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0;
if (!root && !sudo) {
  fail(`Installing packages needs root. Run: sudo apt-get install --no-install-recommends ${wanted}`);
}

// DEBIAN_FRONTEND goes through `env`, because sudo drops the variables it does not know. policy-rc.d is left alone: the
// Prometheus package starts its service only where an init system runs, and the tests use ports of their own.
const apt = (...args) => {
  const command = ['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-y', '-q', ...args];
  return sudo ? run('sudo', ['-n', ...command]) : run(command[0], command.slice(1));
};
const install = () => apt('install', '--no-install-recommends', ...packages);
// The lists may be missing or old: ask for new ones, and go on with what is here where that fails.
if (!apt('update')) console.error('apt-get update failed; trying with the lists that are here.');
if (!install()) fail(`apt-get could not install: ${wanted}`);
const still = missing();
if (still.length > 0) fail(`Installed, but not found on the PATH: ${still.map((peer) => peer.program).join(', ')}`);
console.log(`Installed: ${wanted}.`);
