/** The control socket: what its protocol takes and refuses, as recorded of Open vSwitch 3.1.0; commands in its words. */
import { describe, expect, test } from 'vitest';
import { Megaflow } from '../../../../../src/machine/ovs/datapath/megaflow-table.ts';
import { DP_WORDS, W_ETH_TYPE, W_IN_PORT } from '../../../../../src/machine/ovs/flow/flow.ts';
import type { Session } from '../../../../../src/machine/ovs/stream.ts';
import { CtlError } from '../../../../../src/machine/ovs/unixctl/command.ts';
import { Unixctl } from '../../../../../src/machine/ovs/unixctl/server.ts';
import { FakeHost } from './fake-host.ts';

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
function setUp(): { host: FakeHost; unixctl: Unixctl; run: (line: string) => string } {
  const host = new FakeHost();
  const unixctl = new Unixctl(host, () => host.door);
  const run = (line: string): string => {
    const [method, ...args] = line.split(' ');
    try {
      return unixctl.run(method!, args);
    } catch (error) {
      if (error instanceof CtlError) return `error: ${error.message}`;
      throw error;
    }
  };
  return { host, unixctl, run };
}
function connect(unixctl: Unixctl): { session: Session; sent: () => string; open: () => boolean } {
  let sent = '';
  let open = true;
  const session = unixctl.accept({
    send: (bytes) => {
      sent += new TextDecoder().decode(bytes);
    },
    queued: 0,
    close: () => {
      open = false;
    },
    name: 'unix#1',
  });
  return { session, sent: () => sent, open: () => open };
}

describe('protocol', () => {
  test.each([
    [
      '{"id":0,"method":"version","params":[]}',
      '{"id":0,"result":"ovs-vswitchd (Open vSwitch) 3.1.0\\n","error":null}',
    ],
    [
      '{"id":0,"method":"no/such","params":[]}',
      '{"id":0,"error":"\\"no/such\\" is not a valid command (use \\"list-commands\\" to see a list of valid commands)\\n"}',
    ],
    ['{"id":0,"method":"fdb/show","params":["nobr"]}', '{"id":0,"error":"no such bridge\\n"}'],
    [
      '{"id":"x","method":"version","params":["a"]}',
      '{"id":"x","error":"\\"version\\" command takes at most 0 arguments\\n"}',
    ],
    [
      '{"id":0,"method":"fdb/show","params":[]}',
      '{"id":0,"error":"\\"fdb/show\\" command requires at least 1 arguments\\n"}',
    ],
  ])('%s', (request, reply) => {
    const { unixctl } = setUp();
    const { session, sent } = connect(unixctl);
    for (const byte of encode(request)) session.receive(Uint8Array.of(byte));
    expect(sent()).toBe(reply);
  });
  test('several requests in one piece are answered in order', () => {
    const { unixctl } = setUp();
    const { session, sent } = connect(unixctl);
    session.receive(
      encode('{"id":0,"method":"ofproto/list","params":[]}\n{"id":1,"method":"ofproto/list","params":[]}'),
    );
    expect(sent()).toBe('{"id":0,"result":"br0\\n","error":null}{"id":1,"result":"br0\\n","error":null}');
  });
  test.each([
    'foo',
    '{"id":0,"result":1}',
    '{"id":null,"method":"version","params":[]}',
    '{"method":"version","params":[]}',
    '{"id":0,"method":"version"}',
    '[]',
    `${'['.repeat(1001)}`,
  ])('%s ends the connection', (bytes) => {
    const { unixctl } = setUp();
    const { session, sent, open } = connect(unixctl);
    let threw = false;
    try {
      session.receive(encode(bytes));
    } catch {
      threw = true; // whoever holds the socket ends it then
    }
    expect(threw || !open()).toBe(true);
    expect(sent()).toBe('');
  });
  test('a connection that says nothing for a minute is ended', () => {
    const { unixctl } = setUp();
    const { session, open } = connect(unixctl);
    session.tick?.(1000);
    session.receive(encode('{'));
    session.tick?.(50_000);
    session.tick?.(110_000);
    expect(open()).toBe(true);
    session.tick?.(110_001);
    expect(open()).toBe(false);
  });
});

describe('commands', () => {
  test('every command answers or refuses, with any number of arguments that it takes', () => {
    const { unixctl } = setUp();
    const commands = unixctl.run('list-commands', []);
    const names = [...commands.matchAll(/^ {2}(\S+)/gm)].map((m) => m[1]!);
    expect(names.length).toBeGreaterThan(90);
    for (const name of names) {
      for (let n = 0; n < 5; n++) {
        const args = ['br0', 'p1', '0', '00:00:00:00:00:01', 'x'].slice(0, n);
        try {
          expect(unixctl.run(name, args)).toBeTypeOf('string');
        } catch (error) {
          expect(error, `${name} ${args.join(' ')}`).toBeInstanceOf(CtlError);
          expect((error as CtlError).message).not.toBe('');
        }
      }
    }
  });
  test('fdb: static entries', () => {
    const { host, run } = setUp();
    expect(run('fdb/add br0 p1 0 00:00:00:00:00:01')).toBe('');
    expect(run('fdb/add br0 p1 0 00:00:00:00:00:01')).toBe('');
    expect(run('fdb/add br0 p2 0 00:00:00:00:00:01')).toBe('Overriding already existing static entry on 1\n');
    expect(run('fdb/add br0 zz 0 00:00:00:00:00:01')).toBe(
      'error: software error, odp port is present but no ofp port',
    );
    expect(run('fdb/add br0 p1 0 zz')).toBe('error: bad MAC address');
    expect(run('fdb/show br0')).toBe(' port  VLAN  MAC                Age\n    2     0  00:00:00:00:00:01  static\n');
    expect(run('fdb/del br0 0 00:00:00:00:00:02')).toBe('error: could not find static mac entry');
    expect(run('fdb/del br0 0 00:00:00:00:00:01')).toBe('');
    expect(run('fdb/flush nobr')).toBe('error: no such bridge');
    expect(run('fdb/stats-clear')).toBe('statistics successfully cleared');
    expect(host.journal[0]).toBe('ovs-appctl fdb/add br0 p1 0 00:00:00:00:00:01');
  });
  test('fdb: what was learned', () => {
    const { host, run } = setUp();
    const { macs, bundles } = host.bridge;
    macs.update(2, 0, false, bundles.get('p2')!, 0);
    macs.update(1, 7, false, bundles.get('br0')!, 1e9);
    host.now = 3.5e9;
    expect(run('fdb/show br0')).toBe(
      ' port  VLAN  MAC                Age\n    2     0  00:00:00:00:00:02    3\nLOCAL     7  00:00:00:00:00:01    2\n',
    );
    expect(run('fdb/stats-show br0')).toBe(`Statistics for bridge "br0":
  Current/maximum MAC entries in the table: 2/8192
  Current static MAC entries in the table : 0
  Total number of learned MAC entries     : 2
  Total number of expired MAC entries     : 0
  Total number of evicted MAC entries     : 0
  Total number of port moved MAC entries  : 0
`);
    expect(run('fdb/flush')).toBe('table successfully flushed');
    expect(run('fdb/show br0')).toBe(' port  VLAN  MAC                Age\n');
  });
  test('dpif/show and dpctl/show', () => {
    const { run } = setUp();
    expect(run('dpif/show')).toBe(`system@ovs-system: hit:0 missed:0
  br0:
    br0 65534/100: (internal)
    p1 1/1: (system)
    p2 2/2: (dummy)
`);
    expect(run('dpctl/show -s')).toBe(`system@ovs-system:
  lookups: hit:0 missed:0 lost:0
  flows: 0
  port 0: ovs-system (internal)
    RX packets:0 errors:0 dropped:0 overruns:? frame:?
    TX packets:0 errors:0 dropped:0 aborted:? carrier:?
    collisions:?
    RX bytes:0  TX bytes:0
  port 1: p1
    RX packets:30 errors:0 dropped:0 overruns:? frame:?
    TX packets:30 errors:0 dropped:0 aborted:? carrier:?
    collisions:?
    RX bytes:3180 (3.1 KiB)  TX bytes:3180 (3.1 KiB)
  port 2: p2 (dummy)
    RX packets:11 errors:0 dropped:0 overruns:? frame:?
    TX packets:11 errors:0 dropped:0 aborted:? carrier:?
    collisions:?
    RX bytes:1166 (1.1 KiB)  TX bytes:1166 (1.1 KiB)
  port 100: br0 (internal)
    RX packets:0 errors:0 dropped:0 overruns:? frame:?
    TX packets:0 errors:0 dropped:0 aborted:? carrier:?
    collisions:?
    RX bytes:0  TX bytes:0
`);
    expect(run('dpctl/show nodp')).toBe('error: ovs-vswitchd: opening datapath nodp failed (No such device)');
    expect(run('dpctl/dump-flows nodp')).toBe('error: ovs-vswitchd: datapath not found (Invalid argument)');
    expect(run('dpctl/dump-dps')).toBe('system@ovs-system\n');
    expect(run('dpctl/dump-flows')).toBe('');
  });
  test('dpctl/dump-flows filter=: a match in the words of OpenFlow, ports by name or number', () => {
    const { host, run } = setUp();
    for (const [id, port, type] of [
      [1, 1, 0x0008],
      [2, 2, 0x0608],
    ] as const) {
      const key = new Int32Array(DP_WORDS);
      const mask = new Int32Array(DP_WORDS);
      key[W_IN_PORT] = port;
      mask[W_IN_PORT] = -1;
      key[W_ETH_TYPE] = type;
      mask[W_ETH_TYPE] = 0xffff;
      host.flows.push(new Megaflow(id, key, key, mask, [{ type: 'output', port: 3 - port }]));
    }
    const ports = (text: string): string[] => [...text.matchAll(/in_port\((\d)\)/g)].map((m) => m[1]!);
    expect(ports(run('dpctl/dump-flows'))).toEqual(['1', '2']);
    expect(ports(run('dpctl/dump-flows filter=in_port=p2'))).toEqual(['2']);
    expect(ports(run('dpctl/dump-flows filter=in_port=1,ip'))).toEqual(['1']);
    expect(ports(run('dpctl/dump-flows filter=arp'))).toEqual(['2']);
    expect(ports(run('dpctl/dump-flows filter=in_port=1,arp'))).toEqual([]);
    expect(run('dpctl/dump-flows filter=nonsense')).toMatch(/^error: ovs-vswitchd: Failed to parse filter \(/);
  });
  test('upcall/show, memory/show, coverage, revalidators', () => {
    const { host, run } = setUp();
    expect(run('upcall/set-flow-limit 100')).toBe('set flow_limit to 100\n');
    expect(run('upcall/show')).toBe(`system@ovs-system:
  flows         : (current 0) (avg 1) (max 2) (limit 100)
  dump duration : 1ms
  ufid enabled : true

  5: (keys 0)
`);
    expect(run('memory/show')).toBe(
      'handlers:1 idl-cells-Open_vSwitch:302 ports:3 revalidators:1 rules:5 udpif keys:0\n',
    );
    expect(run('coverage/read-counter bridge_reconfigure')).toBe('2\n');
    expect(run('coverage/read-counter nope')).toBe('error: No such counter');
    expect(run('coverage/show')).toMatch(
      /^Event coverage, avg rate over last: 5 seconds, last minute, last hour, {2}hash=[0-9a-f]{8}:\nbridge_reconfigure {9}2\.0\/sec {5}2\.000\/sec {8}2\.0000\/sec {3}total: 2\n/,
    );
    expect(run('revalidator/wait')).toBe('');
    expect(host.journal).toContain('revalidated');
  });
  test('netdev-dummy/receive takes frames, exit is refused, vlog answers', () => {
    const { host, run } = setUp();
    expect(run('netdev-dummy/receive p2 50540000000a505400000009 --qid 0 0102')).toBe('');
    expect(host.received).toEqual(['50540000000a505400000009', '0102']);
    expect(run('netdev-dummy/receive zz 0102')).toBe('error: no such dummy netdev');
    expect(run('netdev-dummy/receive p2 zz')).toBe('error: syntax error at zz');
    expect(run('exit')).toMatch(/^error: /);
    expect(run('vlog/set dbg')).toBe('');
    expect(run('vlog/set foo:bar:baz')).toBe('error: no destination, level, or module "foo"');
    expect(run('bridge/reconnect')).toBe('');
    expect(host.reconnected).toEqual(['br0']);
    expect(run('dpif-netdev/pmd-stats-show')).toBe('error: please specify an existing datapath');
    expect(run('ofproto/list')).toBe('br0\n');
  });
});
