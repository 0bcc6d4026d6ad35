/** Managers at a topology: ovsdb-server calls the real ovsdb-client, and listens where `ovs-vsctl set-manager` says. */
import { afterAll, expect } from 'vitest';
import { freePort } from '../../tools/free-port.ts';
import { CLIENTS, run, type Switch, startOurs, vsctl } from '../ovs/switches.ts';
import { requirePeer } from '../peers.ts';

const peerTest = requirePeer(...CLIENTS, 'ovsdb-client');
let ours: Switch | null = null;
peerTest.beforeAll(async () => {
  ours = await startOurs();
});
afterAll(async () => {
  await ours?.stop();
});
const good = (stdout = ''): unknown => ({ status: 0, stdout, stderr: '' });

peerTest('a manager that comes late is called, and served', async () => {
  const port = await freePort();
  expect(await vsctl(ours!, 'set-manager', `tcp:127.0.0.1:${port}`)).toEqual(good());
  const failing = await vsctl(ours!, 'wait-until', 'Manager', '.', 'status:last_error="Connection refused"');
  expect(failing).toEqual(good());
  const called = await run('ovsdb-client', ['list-dbs', `ptcp:${port}:127.0.0.1`]);
  expect(called.stdout).toBe('Open_vSwitch\n_Server\n');
  expect(called.status).toBe(0);
});

peerTest('a passive manager says its port, is connected while somebody is there, and closes with its row', async () => {
  expect(await vsctl(ours!, 'set-manager', 'ptcp:0:127.0.0.1')).toEqual(good());
  expect(await vsctl(ours!, 'wait-until', 'Manager', '.', 'status:bound_port!=""')).toEqual(good());
  const { stdout } = await vsctl(ours!, 'get', 'Manager', '.', 'status:bound_port');
  const target = `tcp:127.0.0.1:${JSON.parse(stdout)}`;
  expect(await run('ovs-vsctl', [`--db=${target}`, 'get-manager'])).toEqual(good('ptcp:0:127.0.0.1\n'));
  // Whoever waits over it is there.
  const waiting = run('ovs-vsctl', [
    `--db=${target}`,
    '--timeout=10',
    'wait-until',
    'Manager',
    '.',
    'is_connected=true',
  ]);
  expect(await waiting).toEqual(good());
  expect(await vsctl(ours!, 'del-manager')).toEqual(good());
  const gone = await run('ovsdb-client', ['list-dbs', target]);
  expect(gone.status).not.toBe(0);
});
