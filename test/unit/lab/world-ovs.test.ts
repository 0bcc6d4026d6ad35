/** Open vSwitch of a host in a world: its database drives bridges and ports while frames flow. */
import { describe, expect, test } from 'vitest';
import { buildMachine } from '../../../src/lab/builder.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { bridgeState, conservation } from '../../../src/lab/inspect.ts';
import { effectiveDocument } from '../../../src/lab/ovs/effective.ts';
import type { OvsHost } from '../../../src/lab/ovs/ovs-host.ts';
import type { SavedDatabases } from '../../../src/lab/ovs/start.ts';
import type { RunResult } from '../../../src/lab/protocol.ts';
import { checkRehearsable } from '../../../src/lab/qemu-commands.ts';
import { Refusal } from '../../../src/lab/refusal.ts';
import { World } from '../../../src/lab/world.ts';
import { DummyPort } from '../../../src/machine/host/dummy-port.ts';
import type { Json } from '../../../src/machine/ovs/ovsdb/json.ts';
import type { CtlPmd } from '../../../src/machine/ovs/unixctl/host.ts';
import { dpPorts } from '../../../src/machine/ovs/unixctl/statistics.ts';
import { Client } from '../machine/ovs/openflow/switch.ts';
import { addBr, addPort, type Columns, delBr, delPort } from '../machine/ovs/ovsdb/vsctl-operations.ts';

const nic = (ip: string, more: object = {}): object => ({ name: 'net0', addresses: [`${ip}/24`], ...more });
const guests = (more: object = {}, second: object = {}): object[] => [
  { name: 'a', nics: [nic('10.0.0.1', more)] },
  { name: 'b', nics: [nic('10.0.0.2', { ...more, ...second })] },
];

class Lab {
  readonly world: World;
  readonly ovs: OvsHost;
  readonly document: object;
  private runs = 0;

  constructor(host: object, saved: SavedDatabases = {}) {
    this.document = { name: 't', hosts: [{ name: 'h1', ...host }] };
    const parsed = parseTopology(this.document);
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
    this.world = new World(parsed.topology, buildMachine(parsed.topology, null, saved));
    this.ovs = this.world.machine.ovs[0]!;
  }
  /** What a client does: by the world's door. */
  transact(...operations: Json[]): Json[] {
    return this.world.door(this.ovs).act('ovsdb transact', 'test', () => this.ovs.db.transact(operations));
  }
  addPort(bridge: string, name: string, port: Columns = {}, iface: Columns = {}): void {
    this.transact(...addPort(bridge, name, port, iface));
  }
  delPort(bridge: string, name: string): void {
    this.transact(...delPort(this.ovs.db, bridge, name));
  }
  addBr(name: string, columns: Columns = {}): void {
    this.transact(...addBr(name, columns));
  }
  delBr(name: string): void {
    this.transact(...delBr(this.ovs.db, name));
  }
  column(table: string, name: string, column: string): unknown {
    const row = this.ovs.db.find(table, 'name', name);
    return row?.datum(column).values === null ? row.atom(column) : Object.fromEntries(row?.map(column) ?? []);
  }
  settle(): void {
    for (let i = 0; i < 1000 && this.world.turn(50) === 0; i++);
    expect(this.world.failed).toBeNull();
    expect(conservation(this.world.machine).holds).toBe(true);
  }
  ping(count = 3): RunResult {
    const id = `run-${++this.runs}`;
    const spec = { id, kind: 'ping', from: 'a/net0', to: 'b/net0', frameSize: 98, count, rate: 0 } as const;
    this.world.startTraffic({ ...spec, generator: null, flows: 1 });
    this.settle();
    return this.world.run(id);
  }
}

describe.each([
  ['system', { bridges: [{ name: 'br0' }] }, {}],
  ['netdev', { bridges: [{ name: 'br0', datapath: 'netdev' }] }, { backend: 'vhost-user' }],
] as const)('%s', (datapath, host, backend) => {
  test('a guest that waits is plugged in by its port’s name, and unplugged', () => {
    const it = new Lab({ ...host, guests: guests(backend, { plugged: false }) });
    expect(it.column('Interface', 'a.net0', 'ofport')).toBe(1);
    expect(it.ping().received).toBe(0);
    const iface = datapath === 'system' ? {} : { type: 'dpdkvhostuserclient' };
    it.addPort('br0', 'b.net0', {}, iface);
    expect(it.column('Interface', 'b.net0', 'error')).toBeNull();
    expect(it.column('Interface', 'b.net0', 'ofport')).toBe(2);
    expect(it.column('Interface', 'b.net0', 'link_state')).toBe('up');
    const ports = [...it.ovs.switch.switches.get('br0')!.ofproto.ports.values()];
    expect(ports.map((p) => p.linkUp)).toEqual([true, true, true]);
    const run = it.ping();
    expect(run).toMatchObject({ state: 'SUCCEEDED', sent: 3, received: 3 });
    it.delPort('br0', 'b.net0');
    expect(it.ping().received).toBe(0);
    // what the guest itself sends goes nowhere, and is counted
    const spec = { id: 'back', kind: 'ping', from: 'b/net0', to: 'a/net0', frameSize: 98, count: 2, rate: 0 } as const;
    it.world.startTraffic({ ...spec, generator: null, flows: 1 });
    it.settle();
    const back = it.world.run('back');
    expect(back.received).toBe(0);
    expect(back.dropped['port.removed']).toBeGreaterThan(0);
    it.addPort('br0', 'b.net0', {}, iface);
    expect(it.ping().received).toBe(3);
  });
  test('statistics are what the ports carried', () => {
    const it = new Lab({ ...host, guests: guests(backend) });
    it.ping(4);
    it.ovs.vswitchd.refreshStatistics();
    const statistics = it.column('Interface', 'a.net0', 'statistics') as Record<string, number>;
    const port = bridgeState(it.world.machine, 'br0').ports.find((p) => p.name === 'a.net0')!;
    expect(statistics['rx_packets']).toBe(port.rxPackets);
    expect(statistics['tx_packets']).toBe(port.txPackets);
    expect(statistics['rx_bytes']).toBe(port.rxBytes);
    // requests and ARP
    expect(statistics['rx_packets']).toBeGreaterThanOrEqual(5);
  });
  test('VLANs, fail mode and tags of the document; other ones at run time', () => {
    const it = new Lab({ ...host, guests: guests(backend, { tag: 10 }) });
    expect(it.column('Port', 'b.net0', 'tag')).toBe(10);
    expect(it.ping().received).toBe(0);
    it.transact({ op: 'update', table: 'Port', where: [['name', '==', 'a.net0']], row: { tag: 10 } });
    expect(it.ping().received).toBe(3);
    it.transact({ op: 'update', table: 'Bridge', where: [], row: { fail_mode: 'secure' } });
    expect(it.ping().received).toBe(0);
  });
});

test('ingress policing: what is too much is dropped and counted, and tokens come with time', () => {
  const it = new Lab({ guests: guests() });
  it.ping(1);
  const interfaceRow = (row: Columns): void =>
    void it.transact({ op: 'update', table: 'Interface', where: [['name', '==', 'a.net0']], row });
  interfaceRow({ ingress_policing_kpkts_rate: 1, ingress_policing_kpkts_burst: 1, ingress_policing_rate: 0 });
  expect(it.ping(20).received).toBe(20);
  interfaceRow({ ingress_policing_kpkts_rate: 0, ingress_policing_rate: 1, ingress_policing_burst: 2 });
  const run = it.ping(20);
  // two requests of 752 bits at once; after each that is lost ping waits a second, which brings 1000 bits
  expect(run.received).toBe(12);
  expect(run.dropped).toEqual({ 'port.policed': 8 });
  it.ovs.vswitchd.refreshStatistics();
  expect((it.column('Interface', 'a.net0', 'statistics') as Record<string, number>)['rx_dropped']).toBe(8);
  interfaceRow({ ingress_policing_rate: 0 });
  expect(it.ping(20).received).toBe(20);
});

test('a bridge that comes while the world runs, and a patch between bridges', () => {
  const it = new Lab({ guests: guests({}, { plugged: false }) });
  it.addBr('br1');
  it.addPort('br1', 'b.net0');
  it.addPort('br0', 'to1', {}, { type: 'patch', options: ['map', [['peer', 'to0']]] });
  expect(it.ping().received).toBe(0);
  it.addPort('br1', 'to0', {}, { type: 'patch', options: ['map', [['peer', 'to1']]] });
  expect(it.ping().received).toBe(3);
  expect(
    bridgeState(it.world.machine, 'br1')
      .ports.map((p) => p.name)
      .sort(),
  ).toEqual(['b.net0', 'br1']);
  expect(it.ovs.bridges.size).toBe(2);
  it.delBr('br1');
  expect(it.ovs.bridges.size).toBe(1);
  expect(it.ping().received).toBe(0);
  expect(() => bridgeState(it.world.machine, 'br1')).toThrow('there is no bridge br1');
  it.addBr('br1');
  it.addPort('br1', 'b.net0');
  it.addPort('br1', 'to0', {}, { type: 'patch', options: ['map', [['peer', 'to1']]] });
  expect(it.ping().received).toBe(3);
});

test('a NIC with another back-end, or on another bridge, keeps its VLAN; nobody has changed the database then', () => {
  const it = new Lab({ bridges: [{ name: 'br0' }, { name: 'br1' }], guests: guests({ tag: 10 }) });
  const b = it.world.machine.guests[1]!.nics[0]!;
  it.world.migrate(b, { backend: 'virtio-net' });
  it.settle();
  expect(it.column('Port', 'b.net0', 'tag')).toBe(10);
  expect(it.column('Interface', 'b.net0', 'error')).toBeNull();
  expect(it.ping().received).toBe(3);
  it.world.migrate(b, { bridge: 'br1' });
  it.settle();
  expect(bridgeState(it.world.machine, 'br1').ports.map((port) => port.name)).toContain('b.net0');
  expect(it.column('Port', 'b.net0', 'tag')).toBe(10);
  expect(it.ping().received).toBe(0);
  expect(it.world.takeDatabases()).toBeNull();
  // and where a client has taken its bridge away
  it.delBr('br1');
  it.world.migrate(b, { bridge: 'br0' });
  it.settle();
  // its VLAN has gone with its row
  expect(it.column('Port', 'b.net0', 'tag')).toBeNull();
  it.transact({ op: 'update', table: 'Port', where: [['name', '==', 'b.net0']], row: { tag: 10 } });
  expect(it.ping().received).toBe(3);
});

test('what cannot be opened says why', () => {
  const it = new Lab({ bridges: [{ name: 'br0' }, { name: 'nd', datapath: 'netdev' }], guests: guests() });
  const errors = (bridge: string, name: string, iface: Columns): unknown => {
    it.addPort(bridge, name, {}, iface);
    const said = [it.column('Interface', name, 'error'), it.column('Interface', name, 'ofport')];
    it.delPort(bridge, name);
    return said;
  };
  const refused = (name: string, why: string): unknown[] => [`could not open network device ${name} (${why})`, -1];
  expect(errors('br0', 'x', {})).toEqual(refused('x', 'No such device'));
  expect(errors('br0', 'v', { type: 'dpdkvhostuserclient' })).toEqual(
    refused('v', 'Address family not supported by protocol'),
  );
  expect(errors('br0', 'g', { type: 'gre' })).toEqual(refused('g', 'Address family not supported by protocol'));
  expect(errors('nd', 'd', { type: 'dpdk' })).toEqual(refused('d', 'No such device'));
  expect(errors('br0', 'p', { type: 'patch' })).toEqual(["p: patch type requires valid 'peer' argument", -1]);
  expect(errors('nd', 'w', { type: 'dpdkvhostuserclient' })).toEqual([null, 1]);
  expect(errors('br0', 'i', { type: 'internal' })).toEqual([null, 3]);
});

test('a port that two bridges name is the first one’s, and the other’s when that has lost it', () => {
  const it = new Lab({ bridges: [{ name: 'br0' }, { name: 'br1' }], guests: guests() });
  const { uuid } = it.ovs.db.find('Port', 'name', 'b.net0')!;
  const mutate = (bridge: string, mutator: string): void =>
    void it.transact({
      op: 'mutate',
      table: 'Bridge',
      where: [['name', '==', bridge]],
      mutations: [['ports', mutator, ['set', [['uuid', uuid]]]]],
    });
  mutate('br1', 'insert');
  expect(it.column('Interface', 'b.net0', 'error')).toBe('could not open network device b.net0 (File exists)');
  expect(it.ping().received).toBe(3);
  mutate('br0', 'delete');
  expect(it.column('Interface', 'b.net0', 'error')).toBeNull();
  expect(it.ping().received).toBe(0);
  mutate('br0', 'insert');
  it.delBr('br1');
  expect(it.ping().received).toBe(3);
});

test('a dummy port: frames that are flooded to it can be read, and frames are put in there', () => {
  const it = new Lab({ bridges: [{ name: 'br0', ports: [{ name: 'p1' }] }], guests: guests() });
  it.ping(1);
  const port = it.ovs.switch.portNamed('p1');
  if (!(port instanceof DummyPort)) throw new Error('p1 is a dummy');
  // the ARP request was flooded
  expect(port.read().map(({ bytes }) => [...bytes.subarray(0, 6)])).toEqual([[255, 255, 255, 255, 255, 255]]);
  it.ovs.unixctl.run('netdev-dummy/receive', ['p1', `${'ff'.repeat(6)}0200000000090800${'00'.repeat(46)}`]);
  it.settle();
  expect(port.sent).toBe(1);
  expect(it.ovs.unixctl.run('fdb/show', ['br0'])).toContain('02:00:00:00:00:09');
});

test.each(['system', 'netdev'] as const)(
  'NXT_CT_FLUSH_ZONE: the %s datapath forgets connections of that zone',
  (datapath) => {
    const flows = ['priority=9,icmp,actions=ct(commit,zone=5),ct(commit,zone=6),NORMAL'];
    const backend = datapath === 'netdev' ? { backend: 'vhost-user' } : {};
    const it = new Lab({ bridges: [{ name: 'br0', datapath, flows }], guests: guests(backend) });
    expect(it.ping(1).received).toBe(1);
    const tracked = (): string[] =>
      it.ovs.unixctl
        .run('dpctl/dump-conntrack', [])
        .trimEnd()
        .split('\n')
        .map((line) => /zone=\d+/.exec(line)?.[0] ?? line);
    expect(tracked()).toEqual(['zone=5', 'zone=6']);
    const client = new Client();
    client.session = it.ovs.switch.switches.get('br0')!.agent.accept(client);
    const flush = (zone: string): string => `04040018 00000002 00002320 0000001d 000000000000 ${zone}`;
    client.say('0400000800000001', flush('0007'));
    expect(tracked()).toEqual(['zone=5', 'zone=6']);
    client.say(flush('0005'));
    expect(tracked()).toEqual(['zone=6']);
    // HELLO is all that was answered: neither message was refused
    expect(client.received.map((bytes) => bytes[1])).toEqual([0]);
  },
);

test('flows of the document are there when the world begins', () => {
  const drop = new Lab({ bridges: [{ name: 'br0', flows: ['priority=9,icmp,actions=drop'] }], guests: guests() });
  expect(drop.ping().received).toBe(0);
  const wrong = (flow: string): unknown => {
    try {
      return new Lab({
        bridges: [
          { name: 'x', datapath: 'linux' },
          { name: 'br0', flows: ['actions=drop', flow] },
        ],
      });
    } catch (error) {
      return error instanceof Refusal ? error.error : error;
    }
  };
  const at = { code: 'INVALID', field: '/hosts/0/bridges/1/flows/1' };
  expect(wrong('ip,actions=outpu:1')).toMatchObject(at);
  expect(wrong('ip,actions=group:7')).toMatchObject(at);
  expect(wrong('in_port=nobody,actions=drop')).toMatchObject(at);
  expect(wrong('in_port=br0,actions=drop')).toBeInstanceOf(Lab);
});

describe('what is kept', () => {
  const host = { guests: guests() };
  test('nothing, as long as nobody has changed anything', () => {
    const it = new Lab(host);
    it.ping();
    expect(it.world.takeDatabases()).toBeNull();
    expect(it.world.status().effective).toBeUndefined();
    expect(() => checkRehearsable(it.world.machine)).not.toThrow();
  });
  test('a database that is changed comes back in the next world, and dry runs are refused', () => {
    const it = new Lab(host);
    it.addBr('br1', { fail_mode: 'standalone' });
    it.delPort('br0', 'b.net0');
    it.addPort('br1', 'b.net0', { tag: 3 });
    it.addPort('br1', 'int0', {}, { type: 'internal' });
    const saved = it.world.takeDatabases()!;
    expect(it.world.takeDatabases()).toBeNull();
    expect(() => checkRehearsable(it.world.machine)).toThrow('not what the document says any more');
    const next = new Lab(host, JSON.parse(JSON.stringify(saved)) as SavedDatabases);
    expect(next.column('Port', 'b.net0', 'tag')).toBe(3);
    expect(
      bridgeState(next.world.machine, 'br1')
        .ports.map((p) => p.name)
        .sort(),
    ).toEqual(['b.net0', 'br1', 'int0']);
    expect(next.ovs.changed).toBe(true);
    expect(next.ovs.db.toJson()).toEqual(it.ovs.db.toJson());
  });
  test('the document that would make what stands is one', () => {
    const it = new Lab(host);
    it.addBr('br1', {
      fail_mode: 'secure',
      other_config: [
        'map',
        [
          ['mac-aging-time', '60'],
          ['hwaddr', '02:00:00:00:00:01'],
        ],
      ],
    });
    it.delPort('br0', 'b.net0');
    it.addPort('br1', 'b.net0', { tag: 3 });
    it.addPort('br1', 'd0', { trunks: ['set', [4, 5]] }, { type: 'dummy', ofport_request: 9 });
    const effective = it.world.status().effective!;
    expect(effective.hosts[0]!.bridges).toMatchObject([
      { name: 'br0' },
      {
        name: 'br1',
        macAgingTime: 60,
        failMode: 'secure',
        ports: [{ name: 'd0', type: 'dummy', ofport: 9, trunks: [4, 5] }],
        otherConfig: { hwaddr: '02:00:00:00:00:01' },
      },
    ]);
    expect(effective.hosts[0]!.guests![1]!.nics![0]).toMatchObject({ bridge: 'br1', tag: 3 });
    const again = new Lab(effective.hosts[0]!);
    // as long as nobody changes it, that world's document is the one that it came of
    expect(effectiveDocument(again.world.machine.topology, again.world.machine.ovs)).toEqual(effective);
    again.transact({
      op: 'update',
      table: 'Bridge',
      where: [['name', '==', 'br0']],
      row: { external_ids: ['map', [['a', 'b']]] },
    });
    expect(again.world.status().effective).toEqual(effective);
    it.delBr('br0');
    it.delBr('br1');
    // NICs without any bridge
    expect(it.world.status().effective).toBeNull();
  });
});

test('a bridge of the document whose restored row has another type is one of that type', () => {
  const host = {
    bridges: [{ name: 'br0' }, { name: 'br1', datapath: 'netdev' }],
    guests: guests({ backend: 'vhost-user', bridge: 'br1' }),
  };
  const it = new Lab(host);
  it.transact({ op: 'update', table: 'Bridge', where: [['name', '==', 'br0']], row: { datapath_type: 'netdev' } });
  it.addPort('br0', 'd0', {}, { type: 'internal' });
  const next = new Lab(host, { h1: it.ovs.takePersistent()! });
  const numbers = next.ovs.switch.datapaths().flatMap((of) => dpPorts(of).filter(({ number }) => number > 0));
  expect(numbers.map(({ name }) => name).sort()).toEqual(['a.net0', 'b.net0', 'br0', 'br1', 'd0']);
  expect(new Set(numbers.map(({ number }) => number)).size).toBe(numbers.length);
  expect(next.world.machine.bridges.map(({ datapath }) => datapath)).toEqual(['netdev', 'netdev']);
  expect(next.ping().received).toBe(3);
});

describe('a NIC that is wired differently', () => {
  const rewire = (it: Lab): void => {
    it.world.migrate(it.world.machine.guests[0]!.nics[0]!, { backend: 'virtio-net' });
    it.settle();
  };
  test('is in its bond again', () => {
    const bonds = [{ name: 'bond0', interfaces: ['a.net0', 'd1'], mode: 'active-backup', tag: 7 }];
    const it = new Lab({ bridges: [{ name: 'br0', bonds, ports: [{ name: 'd1' }] }], guests: guests({}, { tag: 7 }) });
    expect(it.ping().received).toBe(3);
    rewire(it);
    expect(it.ovs.unixctl.run('bond/list', [])).toContain('bond0\tactive-backup\t0\td1, a.net0\n');
    // the other member has taken over meanwhile
    it.ovs.unixctl.run('bond/set-active-member', ['bond0', 'a.net0']);
    expect(it.ping().received).toBe(3);
  });
  test('is under the name that its port had', () => {
    const it = new Lab({ guests: guests() });
    const { uuid } = it.ovs.db.find('Interface', 'name', 'a.net0')!;
    it.transact(
      { op: 'insert', table: 'Port', 'uuid-name': 'p', row: { name: 'other', interfaces: ['uuid', uuid] } },
      {
        op: 'mutate',
        table: 'Bridge',
        where: [['name', '==', 'br0']],
        mutations: [
          ['ports', 'delete', ['set', [['uuid', it.ovs.db.find('Port', 'name', 'a.net0')!.uuid]]]],
          ['ports', 'insert', ['set', [['named-uuid', 'p']]]],
        ],
      },
    );
    expect(it.ping().received).toBe(3);
    rewire(it);
    expect(it.column('Port', 'other', 'interfaces')).toBe(it.ovs.db.find('Interface', 'name', 'a.net0')!.uuid);
    expect(it.ping().received).toBe(3);
  });
});

test('dpif-netdev/pmd-stats-clear begins all counters of a PMD anew', () => {
  const it = new Lab({ bridges: [{ name: 'br0', datapath: 'netdev' }], guests: guests({ backend: 'vhost-user' }) });
  it.ping(5);
  const pmd = (): CtlPmd => it.ovs.switch.datapaths()[0]!.pmds[0]!;
  const { busyNs } = pmd();
  expect(busyNs).toBeGreaterThan(0);
  it.ovs.unixctl.run('dpif-netdev/pmd-stats-clear', []);
  expect(pmd()).toMatchObject({ busyNs: 0, idleNs: 0, iterations: 0, busyIterations: 0, since: it.world.now });
  it.ping(1);
  const after = pmd();
  expect(after.busyNs).toBeGreaterThan(0);
  expect(after.busyNs).toBeLessThan(busyNs);
  expect(after.busyNs + after.idleNs).toBe(it.world.now - after.since);
});

test('the same document and commands give the same run', () => {
  const run = (): string => {
    const it = new Lab({ guests: guests({}, { plugged: false }) });
    it.addPort('br0', 'b.net0');
    it.ping();
    it.addBr('br1');
    it.delPort('br0', 'b.net0');
    it.ping();
    return `${it.world.status().fingerprint} ${JSON.stringify(it.ovs.db.toJson())}`;
  };
  expect(run()).toBe(run());
});
