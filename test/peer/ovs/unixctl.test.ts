/** The real ovs-appctl at a control socket of ours: by the socket's path, and by OVS_RUNDIR with its pid file. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { HostStreams } from '../../../src/attach/host-network.ts';
import { Unixctl } from '../../../src/machine/ovs/unixctl/server.ts';
import { FakeHost } from '../../unit/machine/ovs/unixctl/fake-host.ts';
import { requirePeer } from '../peers.ts';
import { type Answer, CLIENTS, DAEMONS, run, startReal } from './switches.ts';

const peerTest = requirePeer(...CLIENTS);
const daemonTest = requirePeer(...CLIENTS, ...DAEMONS);

const root = mkdtempSync(join(tmpdir(), 'ringside-ctl-'));
let network: HostStreams;
let host: FakeHost;

beforeAll(async () => {
  host = new FakeHost();
  network = new HostStreams(root, '127.0.0.1', 't1', 'h1', () => {});
  const unixctl = new Unixctl(host, () => host.door);
  await new Promise<void>((resolve, reject) => {
    network.listen(
      `punix:${network.folder}/ovs-vswitchd.ctl`,
      unixctl,
      () => resolve(),
      (error) => reject(new Error(error)),
    );
  });
});
afterAll(async () => {
  await network.close();
  expect(existsSync(network.folder)).toBe(false);
  rmSync(root, { recursive: true, force: true });
});

const byPath = (...args: readonly string[]): Promise<Answer> =>
  run('ovs-appctl', ['-t', join(network.folder, 'ovs-vswitchd.ctl'), ...args]);
const byFolder = (...args: readonly string[]): Promise<Answer> =>
  run('env', [`OVS_RUNDIR=${network.folder}`, 'ovs-appctl', ...args]);

peerTest('version and list-commands, by path and by OVS_RUNDIR', async () => {
  for (const appctl of [byPath, byFolder]) {
    expect(await appctl('version')).toEqual({
      status: 0,
      stdout: 'ovs-vswitchd (Open vSwitch) 3.1.0\n',
      stderr: '',
    });
    const { status, stdout } = await appctl('list-commands');
    expect(status).toBe(0);
    expect(stdout).toContain('  fdb/show                bridge\n');
  }
});

peerTest('refusals end the client with status 2 and the text', async () => {
  const { status, stderr } = await byPath('fdb/show', 'nobr');
  expect(status).toBe(2);
  expect(stderr).toMatch(/^no such bridge\novs-appctl: .*: server returned an error\n$/);
});

daemonTest('it has every command of the real one, with its arguments', async () => {
  const real = await startReal();
  try {
    const theirs = (await run('ovs-appctl', ['-t', real.unixctl, 'list-commands'])).stdout;
    const ours = (await byPath('list-commands')).stdout;
    const commands = (text: string): string[] => [...text.matchAll(/^ {2}(\S+)/gm)].map((m) => m[1]!);
    // what only a switch with that test device, or that database, has
    const notOurs = (name: string): boolean =>
      /^(netdev-dummy\/(ip|set-)|dpif-dummy|ovsdb\/|cluster\/|dpdk\/|netdev-dpdk\/)/.test(name);
    expect(commands(theirs).filter((name) => !notOurs(name) && !commands(ours).includes(name))).toEqual([]);
  } finally {
    await real.stop();
  }
});

peerTest("the folder is its owner's, and has what OVS_RUNDIR needs", async () => {
  expect(readdirSync(network.folder).sort()).toEqual(
    ['ovs-vswitchd.ctl', 'ovs-vswitchd.pid', `ovs-vswitchd.${process.pid}.ctl`].sort(),
  );
});
