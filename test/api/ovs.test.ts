/** Open vSwitch over REST: flows, groups, meters, trace, appctl, caches, frames at ports without a device; endpoints. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { dirname } from 'node:path';
import { afterEach, test, vi } from 'vitest';
import { freePort } from '../tools/free-port.ts';
import { closeServers, startServer, type TestServer, temporaryFolder } from './client.ts';

afterEach(closeServers);

const dummies = (...names: string[]): object[] => names.map((name) => ({ name, type: 'dummy' }));
const host = (bridge: object = {}, ovs: object = {}): object => ({
  recorder: { events: 65536, bytes: '8MiB' },
  hosts: [{ name: 'h1', ovs, bridges: [{ name: 'br0', ports: dummies('d1', 'd2', 'd3'), ...bridge }] }],
});
const FRAME = '50540000000a50540000000908004500001c000000000011a4cd0a0101010a0101020001000200080000';
const T1 = '/v1/topologies/t1';
const BR0 = `${T1}/bridges/br0`;

interface Endpoint {
  readonly host: string;
  readonly bridge?: string;
  readonly protocol: string;
  readonly target: string;
  readonly error?: string;
}
async function boot(document: object = host()): Promise<{ server: TestServer; endpoints: Endpoint[] }> {
  const server = await startServer({ engine: null, settings: { workers: 1 } });
  const made = await server.put(T1, document);
  assert.equal(made.status, 201, made.text);
  assert.equal(made.body.state, 'RUNNING', made.text);
  return { server, endpoints: made.body.endpoints };
}
/** A frame into a port, and what came out of the others. */
async function inject(server: TestServer, port: string, frame = FRAME): Promise<Record<string, number>> {
  const ports = ['d1', 'd2', 'd3'];
  const sent = async (): Promise<number[]> => {
    const shown = await Promise.all(ports.map((p) => server.get(`${BR0}/ports/${p}/frames`)));
    return shown.map(({ body }) => body.sent);
  };
  const before = await sent();
  const run = await server.post(`${BR0}/ports/${port}/frames`, { frames: [frame] });
  assert.equal(run.status, 202, run.text);
  const ended = await server.get(`${run.headers['location']}?wait=10s`);
  assert.equal(ended.body.state, 'SUCCEEDED', ended.text);
  const after = await sent();
  return Object.fromEntries(ports.map((p, i) => [p, after[i]! - before[i]!]));
}

test('flows are added, shown, changed and deleted in the syntax of ovs-ofctl, and frames go by them', async () => {
  const { server } = await boot({ ...host({ failMode: 'secure' }) });
  assert.deepEqual(await inject(server, 'd1'), { d1: 0, d2: 0, d3: 0 });
  const added = await server.post(`${BR0}/flows`, {
    flows: ['priority=10,in_port=d1,udp,actions=output:d3', 'table=1,priority=5,arp,actions=drop'],
  });
  assert.deepEqual([added.status, added.body], [200, { changed: 2 }], added.text);
  assert.deepEqual(await inject(server, 'd1'), { d1: 0, d2: 0, d3: 1 });
  const shown = await server.get(`${BR0}/flows?filter=table%3D1`);
  assert.match(
    shown.text,
    /^cookie=0x0, duration=[\d.]+s, table=1, n_packets=0, n_bytes=0, (idle_age=\d+, )?priority=5,arp actions=drop\n$/,
  );
  const modified = await server.post(`${BR0}/flows`, { command: 'modify', flows: ['in_port=d1,actions=output:d2'] });
  assert.deepEqual(modified.body, { changed: 1 });
  assert.deepEqual(await inject(server, 'd1'), { d1: 0, d2: 1, d3: 0 });
  const gone = await server.delete(`${BR0}/flows?match=table%3D1`);
  assert.deepEqual(gone.body, { changed: 1 });
  for (const [path, field] of [
    ['flows?match=nonsense%3D1', 'match'],
    ['groups?group=nonsense', 'group'],
    ['meters?meter=nonsense', 'meter'],
  ]) {
    const refused = await server.delete(`${BR0}/${path}`);
    assert.equal(refused.status, 400, refused.text);
    assert.equal(refused.body.errors[0].pointer, `querystring/${field}`);
  }
  const all = await server.request('GET', `${BR0}/flows`, { headers: { accept: 'text/plain' } });
  assert.equal(all.text.trim().split('\n').length, 1, all.text);
  assert.match(all.text, /udp,in_port=d1 actions=output:d2\n$/);
});

test('of several flows all are added, or none: the refused one is named', async () => {
  const { server } = await boot();
  const before = (await server.request('GET', `${BR0}/flows`, { headers: { accept: 'text/plain' } })).text;
  for (const [bad, detail] of [
    ['priority=1,nonsense=2,actions=drop', /nonsense/],
    ['priority=1,in_port=d1', /must specify an action/],
    ['actions=group:7', /OFPBAC_BAD_OUT_GROUP/],
  ] as const) {
    const refused = await server.post(`${BR0}/flows`, { flows: ['priority=9,actions=drop', bad] });
    assert.equal(refused.status, 422, refused.text);
    assert.equal(refused.body.errors[0].pointer, '/flows/1');
    assert.match(refused.body.errors[0].detail, detail);
  }
  const after = (await server.request('GET', `${BR0}/flows`, { headers: { accept: 'text/plain' } })).text;
  const timeless = (text: string): string => text.replace(/duration=[\d.]+s/g, '');
  assert.equal(timeless(after), timeless(before));
});

test('groups and meters', async () => {
  const { server } = await boot();
  const group = 'group_id=1,type=all,bucket=actions=output:d2,bucket=actions=output:d3';
  assert.deepEqual((await server.post(`${BR0}/groups`, { groups: [group] })).body, { changed: 1 });
  const shown = (await server.get(`${BR0}/groups`)).body.groups;
  assert.deepEqual(shown, ['group_id=1,type=all,bucket=actions=output:d2,bucket=actions=output:d3']);
  const again = await server.post(`${BR0}/groups`, { groups: [group] });
  assert.equal(again.status, 422);
  assert.match(again.body.errors[0].detail, /OFPGMFC_GROUP_EXISTS/);
  await server.post(`${BR0}/flows`, { flows: ['priority=10,in_port=d1,actions=group:1'] });
  assert.deepEqual(await inject(server, 'd1'), { d1: 0, d2: 1, d3: 1 });
  assert.deepEqual((await server.delete(`${BR0}/groups?group=1`)).body, { changed: 1 });
  assert.doesNotMatch((await server.get(`${BR0}/flows?filter=in_port%3Dd1`)).text, /group/);

  assert.deepEqual((await server.post(`${BR0}/meters`, { meters: ['meter=1,kbps,band=type=drop,rate=1000'] })).body, {
    changed: 1,
  });
  assert.deepEqual((await server.get(`${BR0}/meters`)).body.meters, ['meter=1 kbps bands=\ntype=drop rate=1000']);
  assert.deepEqual((await server.delete(`${BR0}/meters`)).body, { changed: 1 });
  assert.deepEqual((await server.get(`${BR0}/meters`)).body.meters, []);
});

test('appctl over REST: what it prints, what it refuses; the FDB is flushed', async () => {
  const { server } = await boot();
  const appctl = async (command: string, ...args: string[]) =>
    (await server.post(`${T1}/hosts/h1/appctl`, { command, args })).body;
  assert.deepEqual(await appctl('version'), { output: 'ovs-vswitchd (Open vSwitch) 3.1.0\n', error: null });
  assert.deepEqual(await appctl('fdb/show', 'nobr'), { output: '', error: 'no such bridge' });
  await inject(server, 'd1');
  assert.match((await appctl('fdb/show', 'br0')).output, /^ port .*\n {4}1 {5}0 {2}50:54:00:00:00:09 {4}0\n$/);
  assert.equal((await server.delete(`${BR0}/fdb`)).status, 204);
  assert.equal((await appctl('fdb/show', 'br0')).output, ' port  VLAN  MAC                Age\n');
  const missing = await server.post(`${T1}/hosts/h9/appctl`, { command: 'version' });
  assert.equal(missing.status, 404);
  const journal: { command: string; detail: string }[] = (await server.get(T1)).body.journal;
  assert.ok(journal.some(({ command, detail }) => command === 'ovs-appctl' && detail === 'h1: fdb/flush br0'));
});

test('trace shows the tables a frame goes through, and changes nothing', async () => {
  const { server } = await boot();
  const before = (await server.get(T1)).body.fingerprint;
  const traced = await server.post(`${BR0}/trace`, { flow: 'in_port=d1,udp' });
  assert.equal(traced.status, 200, traced.text);
  assert.match(traced.body.text, /^Flow: udp,in_port=1,.*\n\nbridge\("br0"\)\n-+\n 0\. priority 0\n {4}NORMAL\n/);
  assert.match(traced.body.text, /\nDatapath actions: .+\n$/);
  const refused = await server.post(`${BR0}/trace`, { flow: 'in_port=d1,nonsense' });
  assert.equal(refused.status, 422);
  assert.equal(refused.body.errors[0].pointer, '/flow');
  assert.equal((await server.get(T1)).body.fingerprint, before);
});

test('caches by thread, of the netdev datapath', async () => {
  const { server } = await boot(host({ datapath: 'netdev' }));
  await inject(server, 'd1');
  const { threads } = (await server.get(`${BR0}/caches`)).body;
  assert.deepEqual(
    threads.map((t: { thread: string }) => t.thread.replace(/\d+/, 'N')),
    ['pmd-cN', 'main'],
  );
  const misses = threads.reduce(
    (n: number, t: { caches: Record<string, number> }) => n + t.caches['miss with success upcall']!,
    0,
  );
  assert.equal(misses, 1);
});

test('frames at a port without a device: the ones after a known one; other ports have none', async () => {
  const { server } = await boot();
  await inject(server, 'd1');
  await inject(server, 'd1');
  const read = await server.get(`${BR0}/ports/d2/frames?after=1`);
  assert.equal(read.body.sent, 2);
  assert.deepEqual(
    read.body.frames.map(({ sequence, frame }: { sequence: number; frame: string }) => [sequence, frame]),
    [[2, FRAME]],
  );
  assert.equal((await server.get(`${BR0}/ports/zz/frames`)).status, 404);
  assert.equal((await server.get(`${BR0}/ports/br0/frames`)).status, 409);
  assert.equal((await server.post(`${BR0}/ports/d1/frames`, { frames: ['00'] })).status, 422);
  const refused = await server.post(`${BR0}/ports/d1/frames`, { frames: [FRAME, 'zz'] });
  assert.equal(refused.status, 422);
  assert.deepEqual(refused.body.errors, [
    {
      pointer: '/frames/1',
      detail: 'does not have the form that is expected',
      expected: 'Bytes of a frame, two hexadecimal digits each.',
    },
  ]);
});

const connects = (target: string): Promise<boolean> =>
  new Promise((resolve) => {
    const [kind, ...rest] = target.split(':');
    const to =
      kind === 'tcp' ? { host: rest[0]!, port: Number(rest[1]) } : { path: kind === 'unix' ? rest.join(':') : target };
    const socket = createConnection(to);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });

test('endpoints are there with the answer, and gone with the topology', async () => {
  const { server, endpoints } = await boot();
  assert.deepEqual(
    endpoints.map(({ protocol, bridge, error, target }) => [
      protocol,
      bridge,
      error,
      target.replace(/\d{2,}/g, 'N')[0],
    ]),
    [
      ['ovsdb', undefined, undefined, 't'],
      ['ovsdb', undefined, undefined, 'u'],
      ['unixctl', undefined, undefined, '/'],
      ['openflow', 'br0', undefined, 't'],
      ['openflow', 'br0', undefined, 'u'],
    ],
  );
  for (const { target } of endpoints) assert.ok(await connects(target), target);
  assert.equal((await server.delete(T1)).status, 204);
  for (const { target } of endpoints) assert.ok(!(await connects(target)), target);
  const folder = dirname(endpoints[2]!.target);
  assert.ok(folder.endsWith('/t1/h1') && !existsSync(dirname(folder)), folder);
});

test('a document fixes the ports; a new world takes them over from the old one', async () => {
  const port = await freePort();
  const { server, endpoints } = await boot(host({}, { ovsdbPort: port }));
  assert.equal(endpoints[0]!.target, `tcp:127.0.0.1:${port}`);
  for (let i = 0; i < 3; i++) {
    const restarted = await server.post(`${T1}/restart`);
    assert.deepEqual(restarted.body.endpoints[0], { host: 'h1', protocol: 'ovsdb', target: `tcp:127.0.0.1:${port}` });
    assert.ok(await connects(`tcp:127.0.0.1:${port}`));
  }
});

test('a port that somebody else has is said, and taken when it is free', async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const address = other.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  const { server, endpoints } = await boot(host({}, { ovsdbPort: port }));
  assert.deepEqual(endpoints[0], {
    host: 'h1',
    protocol: 'ovsdb',
    target: `tcp:127.0.0.1:${port}`,
    error: 'Address already in use',
  });
  await new Promise((resolve) => other.close(resolve));
  await vi.waitFor(async () => assert.equal((await server.get(T1)).body.endpoints[0].error, undefined), {
    timeout: 5000,
    interval: 100,
  });
});

test('sockets are in the data folder while the server runs', async () => {
  const dataDir = temporaryFolder();
  const server = await startServer({ engine: null, settings: { workers: 1, dataDir } });
  const { endpoints } = (await server.put(T1, host())).body;
  assert.equal(endpoints[2].target, `${dataDir}/run/t1/h1/ovs-vswitchd.ctl`);
  await closeServers();
  assert.ok(!existsSync(`${dataDir}/run`));
});

test('metrics by the terms of ovs-appctl: threads, datapaths, MAC tables', async () => {
  const { server } = await boot(host({ datapath: 'netdev' }));
  await inject(server, 'd1');
  const text = (await server.request('GET', '/metrics', { headers: { accept: 'text/plain' } })).text;
  const value = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN);
  const main = 'topology="t1",host="h1",core="main"';
  assert.equal(value(`ovs_pmd_rx_packets_total{${main}}`), 1);
  assert.equal(value(`ovs_pmd_upcalls_total{${main},result="success"}`), 1);
  assert.equal(value('ovs_dp_flows{topology="t1",host="h1",datapath="netdev@ovs-netdev"}'), 1);
  assert.equal(value('ovs_fdb_entries{topology="t1",host="h1",bridge="br0"}'), 1);
  assert.equal(value('ovs_fdb_events_total{topology="t1",host="h1",bridge="br0",event="learned"}'), 1);
  assert.match(text, /^ovs_pmd_cycles_total\{topology="t1",host="h1",core="\d+",state="idle"\} /m);
});
