/** ovs-vswitchd: what the database says is done, and what came of it is written back. */
import { describe, expect, test } from 'vitest';
import { OFPP_LOCAL } from '../../../../../src/machine/ovs/flow/actions.ts';
import { FakeSwitch } from './fake-switch.ts';

const P1 = [0, 1, 2, 3, 4, 5];
const P2 = [0, 1, 2, 3, 4, 4];

test('an empty database is a switch without bridges that says what it can', () => {
  const it = new FakeSwitch();
  const [row] = [...it.db.rows('Open_vSwitch')];
  expect(row!.texts('datapath_types')).toEqual(['netdev', 'system']);
  expect(row!.text('ovs_version')).toBe('3.1.0');
  expect(row!.text('db_version')).toBe('8.3.1');
  expect(row!.text('dpdk_version')).toBe('none');
  expect(it.bridges.size).toBe(0);
});

describe('bridges', () => {
  test('come with their LOCAL port, an address and a datapath id', () => {
    const it = new FakeSwitch();
    expect(it.addBr('br0')).toBe(1);
    expect(it.curCfg).toBe(1);
    expect([...it.bridge().ports.keys()]).toEqual([OFPP_LOCAL]);
    const local = it.get('Interface', 'br0');
    expect(local.integer('ofport')).toBe(65534);
    expect(local.text('link_state')).toBe('up');
    expect(it.get('Bridge', 'br0').text('datapath_id')).toBe(
      local.text('mac_in_use').replaceAll(':', '').padStart(16, '0'),
    );
    // of the UUID of its row, as bridge_create() does: locally administered, unicast
    expect(Number.parseInt(local.text('mac_in_use').slice(0, 2), 16) & 3).toBe(2);
    it.delBr('br0');
    expect(it.bridges.size).toBe(0);
    expect(it.opened.every((n) => n.closed)).toBe(true);
  });
  test('take the least address of their ports, or the one that is set', () => {
    const it = new FakeSwitch({ p1: P1, p2: P2 });
    it.addBr('br0');
    it.addPort('br0', 'p1');
    it.addPort('br0', 'p2');
    expect(it.get('Interface', 'br0').text('mac_in_use')).toBe('00:01:02:03:04:04');
    expect(it.get('Bridge', 'br0').text('datapath_id')).toBe('0000000102030404');
    it.set('Bridge', 'br0', {
      other_config: [
        'map',
        [
          ['hwaddr', '02:00:00:00:00:01'],
          ['datapath-id', '0x2a'],
        ],
      ],
    });
    expect(it.get('Interface', 'br0').text('mac_in_use')).toBe('02:00:00:00:00:01');
    expect(it.get('Bridge', 'br0').text('datapath_id')).toBe('000000000000002a');
  });
  test('of another datapath type are other bridges', () => {
    const it = new FakeSwitch({ p1: P1 });
    it.addBr('br0');
    it.addPort('br0', 'p1');
    const before = it.bridge();
    it.set('Bridge', 'br0', { datapath_type: 'netdev' });
    expect(it.bridge()).not.toBe(before);
    expect(it.bridge().ports.size).toBe(2);
    expect(it.get('Interface', 'p1').integer('ofport')).toBe(1);
  });
  test('get other_config, flood VLANs, fail mode, protocols and controllers', () => {
    const it = new FakeSwitch();
    it.addBr('br0', {
      fail_mode: 'secure',
      flood_vlans: ['set', [3, 9]],
      protocols: ['set', ['OpenFlow13', 'OpenFlow10']],
      other_config: [
        'map',
        [
          ['mac-aging-time', '60'],
          ['mac-table-size', '4096'],
          ['forward-bpdu', 'true'],
          ['dp-desc', 'rack 7'],
        ],
      ],
    });
    const bridge = it.bridge();
    expect(bridge.macTable).toEqual([60, 4096, [3, 9]]);
    expect(bridge.forwardBpdu).toBe(true);
    expect(bridge.description).toBe('rack 7');
    expect(bridge.remotes).toMatchObject({ failMode: 'secure', protocols: ['OpenFlow10', 'OpenFlow13'] });
    it.transact(
      { op: 'insert', table: 'Controller', 'uuid-name': 'c', row: { target: 'tcp:127.0.0.1:6653', max_backoff: 2000 } },
      {
        op: 'update',
        table: 'Bridge',
        where: [],
        row: { controller: ['named-uuid', 'c'] },
      },
    );
    expect(bridge.remotes!.controllers).toMatchObject([{ target: 'tcp:127.0.0.1:6653', maxBackoff: 2000 }]);
    const controller = (): unknown => {
      const row = it.db.find('Controller', 'target', 'tcp:127.0.0.1:6653')!;
      return [row.flag('is_connected'), row.textOrNull('role'), Object.fromEntries(row.map('status'))];
    };
    expect(controller()).toEqual([false, null, {}]);
    bridge.statuses = [{ target: 'tcp:127.0.0.1:6653', connected: true, role: 'master', status: { state: 'ACTIVE' } }];
    it.daemon.refreshStatus();
    expect(controller()).toEqual([true, 'master', { state: 'ACTIVE' }]);
  });
});

describe('interfaces', () => {
  test('that are not there say so, in the real one’s words, and are tried again', () => {
    const it = new FakeSwitch();
    it.addBr('br0');
    expect(it.addPort('br0', 'x')).toBe(it.curCfg);
    const row = it.get('Interface', 'x');
    expect(row.integer('ofport')).toBe(-1);
    expect(row.text('error')).toBe('could not open network device x (No such device)');
    expect(row.textOrNull('link_state')).toBeNull();
    it.addPort('br0', 'y', {}, { type: 'gre' });
    expect(it.get('Interface', 'y').text('error')).toBe(
      'could not open network device y (Address family not supported by protocol)',
    );
    it.addPort('br0', 'z', {}, { type: 'patch' });
    expect(it.get('Interface', 'z').text('error')).toBe("z: patch type requires valid 'peer' argument");
    it.set('Interface', 'z', { options: ['map', [['peer', 'q']]] });
    expect(it.get('Interface', 'z').textOrNull('error')).toBeNull();
    expect(it.bridge().peers.get(it.get('Interface', 'z').integer('ofport')!)).toBe('q');
  });
  test('numbers: as asked for, kept, and not given again at once', () => {
    const it = new FakeSwitch({ p1: P1, p2: P2, p3: P1, p4: P2 });
    const number = (name: string): number | null => it.get('Interface', name).integer('ofport');
    it.addBr('br0');
    it.addPort('br0', 'p1');
    it.addPort('br0', 'p2');
    it.addPort('br0', 'p3', {}, { ofport_request: 55 });
    expect(['p1', 'p2', 'p3'].map(number)).toEqual([1, 2, 55]);
    it.delPort('br0', 'p1');
    it.addPort('br0', 'p4');
    expect(number('p4')).toBe(3);
    it.addPort('br0', 'p1');
    expect(number('p1')).toBe(4);
    // p2 is not asked whether it minds
    it.set('Interface', 'p1', { ofport_request: 2 });
    expect(number('p1')).toBe(2);
    expect(number('p2')).toBeGreaterThan(3);
    expect(new Set(['p1', 'p2', 'p3', 'p4'].map(number)).size).toBe(4);
    // p4 asks for what p1 has asked for, too
    const before = number('p4');
    it.set('Interface', 'p4', { ofport_request: 2 });
    expect([number('p1'), number('p4')]).toEqual([2, before]);
  });
  test('a number that is no int counts as none', () => {
    const it = new FakeSwitch();
    it.addBr('br0', { other_config: ['map', [['mac-table-size', '4294967296']]] });
    expect(it.bridge().macTable).toEqual([300, 8192, []]);
  });
  test('what a client commits is carried out once, what is none of its tables not at all', () => {
    const it = new FakeSwitch({ p1: P1 });
    it.addBr('br0');
    const before = it.changes;
    const cfg = it.addPort('br0', 'p1');
    expect(it.changes).toBe(before + 1);
    expect([...it.db.rows('Open_vSwitch')][0]!.integer('cur_cfg')).toBe(cfg);
    it.db.edit((edit) => void edit.insert('QoS', { type: 'linux-htb' }));
    expect(it.changes).toBe(before + 1);
  });
  test('policing, MTU and address are handed down', () => {
    const it = new FakeSwitch({ p1: P1 });
    it.addBr('br0');
    it.addPort('br0', 'p1', {}, { ingress_policing_rate: 1000, ingress_policing_burst: 80, mtu_request: 9000 });
    expect(it.netdev('p1').policed).toEqual([1000, 80, 0, 0]);
    expect(it.get('Interface', 'p1').integer('mtu')).toBe(9000);
    it.addPort('br0', 'int0', {}, { type: 'internal', mac: '02:11:22:33:44:55' });
    expect(it.get('Interface', 'int0').text('mac_in_use')).toBe('02:11:22:33:44:55');
  });
  test('statistics and status are what the device says', () => {
    const it = new FakeSwitch({ p1: P1 });
    it.addBr('br0');
    it.addPort('br0', 'p1');
    const received = (): unknown => it.get('Interface', 'p1').map('statistics').get('rx_packets');
    expect(received()).toBe(0);
    it.netdev('p1').received = 7;
    it.daemon.refreshStatistics();
    expect(received()).toBe(7);
    expect(Object.fromEntries(it.get('Interface', 'p1').map('status'))).toEqual({ driver_name: 'fake' });
    it.netdev('p1').up = false;
    it.daemon.refreshStatus();
    expect(it.get('Interface', 'p1').text('link_state')).toBe('down');
  });
});

describe('ports', () => {
  test('VLANs', () => {
    const it = new FakeSwitch({ p1: P1, p2: P2 });
    it.addBr('br0');
    it.addPort('br0', 'p1', { tag: 10 });
    expect(it.bridge().bundles.get('p1')).toMatchObject({ vlanMode: 'access', vlan: 10, trunks: null, bond: null });
    it.addPort('br0', 'p2', {
      trunks: ['set', [4, 5]],
      other_config: [
        'map',
        [
          ['priority-tags', 'if-nonzero'],
          ['qinq-ethtype', '802.1q'],
        ],
      ],
    });
    expect(it.bridge().bundles.get('p2')).toMatchObject({
      vlanMode: 'trunk',
      vlan: -1,
      trunks: [4, 5],
      priorityTags: 'if-nonzero',
      qinqEthertype: 0x8100,
    });
    it.set('Port', 'p2', { vlan_mode: 'native-untagged', tag: 4 });
    expect(it.bridge().bundles.get('p2')).toMatchObject({ vlanMode: 'native-untagged', vlan: 4 });
    it.delPort('br0', 'p2');
    expect([...it.bridge().bundles.keys()].sort()).toEqual(['br0', 'p1']);
  });
  test('of several interfaces are bonds', () => {
    const it = new FakeSwitch({ b1: P1, b2: P2 });
    it.addBr('br0');
    it.transact(
      { op: 'insert', table: 'Interface', 'uuid-name': 'a', row: { name: 'b1' } },
      { op: 'insert', table: 'Interface', 'uuid-name': 'b', row: { name: 'b2' } },
      {
        op: 'insert',
        table: 'Port',
        'uuid-name': 'p',
        row: {
          name: 'bond0',
          interfaces: [
            'set',
            [
              ['named-uuid', 'a'],
              ['named-uuid', 'b'],
            ],
          ],
          bond_mode: 'active-backup',
          bond_updelay: 100,
          other_config: ['map', [['bond-primary', 'b2']]],
        },
      },
      { op: 'mutate', table: 'Bridge', where: [], mutations: [['ports', 'insert', ['set', [['named-uuid', 'p']]]]] },
    );
    const bundle = it.bridge().bundles.get('bond0')!;
    expect(bundle.ports).toEqual([1, 2]);
    expect(bundle.bond).toEqual({ mode: 'active-backup', primary: 'b2', upDelay: 100, downDelay: 0 });
  });
  test('mirrors name ports of the bridge', () => {
    const it = new FakeSwitch({ p1: P1, p2: P2 });
    it.addBr('br0');
    it.addPort('br0', 'p1');
    it.addPort('br0', 'p2');
    const [p1, p2] = ['p1', 'p2'].map((name) => ['uuid', it.get('Port', name).uuid]);
    it.transact(
      {
        op: 'insert',
        table: 'Mirror',
        'uuid-name': 'm',
        row: { name: 'm0', select_src_port: p1!, output_port: p2!, snaplen: 64 },
      },
      { op: 'insert', table: 'Mirror', 'uuid-name': 'n', row: { name: 'm1', select_all: true } },
      {
        op: 'update',
        table: 'Bridge',
        where: [],
        row: {
          mirrors: [
            'set',
            [
              ['named-uuid', 'm'],
              ['named-uuid', 'n'],
            ],
          ],
        },
      },
    );
    // the second says no output
    expect(it.bridge().mirrors).toMatchObject([
      { selectAll: false, selectSrcPorts: ['p1'], selectDstPorts: [], outputPort: 'p2', outputVlan: null, snaplen: 64 },
    ]);
    it.daemon.refreshStatistics();
    expect(it.db.find('Mirror', 'name', 'm0')!.map('statistics').get('tx_packets')).toBe(3);
    it.delPort('br0', 'p2');
    expect(it.bridge().mirrors).toEqual([]);
  });
});

test('a database that is loaded is carried out; its numbers stay', () => {
  const first = new FakeSwitch({ p1: P1, p2: P2 });
  first.addBr('br0');
  first.addPort('br0', 'p1');
  first.addPort('br0', 'p2');
  first.delPort('br0', 'p1');
  const second = new FakeSwitch({ p1: P1, p2: P2 });
  second.db.load(first.db.toJson());
  expect(second.get('Interface', 'p2').integer('ofport')).toBe(2);
  expect([...second.bridge().ports.keys()].sort()).toEqual([2, OFPP_LOCAL]);
  expect(second.curCfg).toBe(first.curCfg);
});
