/**
 * The NORMAL action on both datapaths: learning, moving, ageing, flooding. The cases restate what Open vSwitch 3.1.0 does
 * with such frames (measured with ofproto/trace and netdev-dummy/receive), without its LOCAL port.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../../../src/engine/events.ts';
import { UPCALL_QUEUE } from '../../../../../src/machine/memory/sizes.ts';
import { KernelDatapath } from '../../../../../src/machine/ovs/datapath/kernel-datapath.ts';
import { frame, KINDS, Switch } from './switch.ts';

type Step = readonly [
  port: number,
  destination: number | string,
  source: number | string,
  out: readonly number[],
  seconds?: number,
];
const BROADCAST = 'ff:ff:ff:ff:ff:ff';

const cases: readonly (readonly [string, readonly Step[]])[] = [
  ['unknown unicast goes to all ports but its own', [[1, 2, 1, [2, 3, 4]]]],
  [
    'known unicast goes to one port',
    [
      [2, 1, 2, [1, 3, 4]],
      [1, 2, 1, [2]],
      [2, 1, 2, [1]],
    ],
  ],
  [
    'the flow that flooded is translated again when the destination is learned',
    [
      [1, 2, 1, [2, 3, 4]],
      [1, 2, 1, [2, 3, 4]],
      [2, 1, 2, [1]],
      [1, 2, 1, [2]],
    ],
  ],
  [
    'MAC move: the later port wins at once',
    [
      [1, 9, 1, [2, 3, 4]],
      [2, 9, 1, [1, 3, 4]],
      [3, 1, 3, [2]],
    ],
  ],
  [
    'an existing flow is rewritten after a MAC move',
    [
      [1, 9, 1, [2, 3, 4]],
      [3, 1, 3, [1]],
      [3, 1, 3, [1]],
      [2, 9, 1, [1, 3, 4]],
      [3, 1, 3, [2]],
    ],
  ],
  [
    'a MAC that moves away and back is at its first port again',
    [
      [1, 9, 1, [2, 3, 4]],
      [2, 9, 1, [1, 3, 4]],
      [1, 9, 1, [2, 3, 4]],
      [3, 1, 3, [1]],
    ],
  ],
  [
    'destination on the ingress port: dropped',
    [
      [1, 9, 1, [2, 3, 4]],
      [1, 1, 2, []],
      [1, 2, 1, []],
    ],
  ],
  [
    'broadcast',
    [
      [2, 1, 2, [1, 3, 4]],
      [1, BROADCAST, 1, [2, 3, 4]],
      [1, BROADCAST, 1, [2, 3, 4]],
    ],
  ],
  [
    'multicast is flooded, and never learned as a source',
    [
      [1, '01:00:5e:00:00:01', 1, [2, 3, 4]],
      [2, 9, '01:00:5e:00:00:01', [1, 3, 4]],
      [3, '01:00:5e:00:00:01', 3, [1, 2, 4]],
    ],
  ],
  [
    'reserved group addresses are neither forwarded nor learned from',
    [
      [1, '01:80:c2:00:00:00', 1, []],
      [1, '01:80:c2:00:00:0e', 1, []],
      [1, '01:80:c2:00:00:0f', 1, []],
      [2, 1, 2, [1, 3, 4]],
    ],
  ],
  [
    'the block behind the reserved one is flooded',
    [
      [1, '01:80:c2:00:00:10', 1, [2, 3, 4]],
      [1, '01:80:c2:00:00:20', 1, [2, 3, 4]],
      [2, 1, 2, [1]],
    ],
  ],
  [
    'an address is kept at 299 s idle and gone after 301 s',
    [
      [1, 9, 1, [2, 3, 4], 0],
      [2, 1, 2, [1], 299],
      [3, 1, 3, [1, 2, 4], 301],
    ],
  ],
  [
    'traffic keeps an address young, also where flows carry it',
    [
      [1, 9, 1, [2, 3, 4], 0],
      [1, 9, 1, [2, 3, 4], 200],
      [1, 9, 1, [2, 3, 4], 290],
      [3, 1, 3, [1], 500],
    ],
  ],
  [
    'an address that comes back at the same port after it was too old: floods end',
    [
      [1, 9, 1, [2, 3, 4], 0],
      [3, 1, 3, [1, 2, 4], 400],
      [1, 8, 1, [2, 3, 4], 401],
      [3, 1, 3, [1], 402],
    ],
  ],
];

describe.each(KINDS)('%s datapath', (kind) => {
  test.each(cases)('%s', (_, steps) => {
    const s = new Switch(kind, 4);
    for (const [i, [port, destination, source, out, seconds = i / 1e6]] of steps.entries()) {
      assert.deepEqual(s.send(port, frame(destination, source), seconds), out, `step ${i}`);
    }
    assert.equal(s.bare.services.pool.live, 0);
  });

  test('only in_port, addresses, type, VLAN and fragments make a flow: ports of UDP do not', () => {
    const s = new Switch(kind, 3);
    s.send(2, frame(1, 2));
    for (let i = 0; i < 50; i++) assert.deepEqual(s.send(1, frame(2, 1, i), i), [2]);
    assert.equal(s.flows.length, 2);
    // the frame that missed counts for the OpenFlow rule, not for the flow that it brought
    assert.equal(s.flows[1]!.packets, 49);
    assert.equal(s.flows[1]!.bytes, 49 * 60);
    assert.equal(s.ofproto.rulePackets, 2);
    assert.equal(s.bare.count(E.DP_MISS), 2);
    assert.equal(s.bare.count(E.DP_FLOW_PUT), 2);
  });

  test('a full MAC table forgets one address for each that is new, and what it forgot is learned again', () => {
    const s = new Switch(kind, 2, { macTableSize: 10 });
    for (let mac = 1; mac <= 11; mac++) s.send(1, frame(99, mac), mac);
    assert.equal(s.ofproto.entries(12e9).length, 10);
    const forgotten = Array.from({ length: 11 }, (_, i) => i + 1).filter((mac) =>
      s.ofproto.entries(12e9).every((e) => !e.mac.endsWith(mac.toString(16).padStart(2, '0'))),
    );
    assert.equal(forgotten.length, 1);
    s.send(1, frame(99, forgotten[0]!), 13);
    assert.deepEqual(s.send(1, frame(forgotten[0]!, 50), 14), [], 'on its own port');
  });

  test('frames without an Ethernet header are dropped with their reason', () => {
    const s = new Switch(kind, 2);
    assert.deepEqual(s.send(1, new Uint8Array(13)), []);
    assert.equal(s.bare.count(E.DP_DROP_MALFORMED), 1);
    assert.equal(s.bare.services.pool.live, 0);
  });

  test('copies of a flood have ids of their own and name their parent', () => {
    const s = new Switch(kind, 5);
    s.send(1, frame(2, 1));
    const clones = s.bare.events.filter((e) => e.kind === E.PACKET_CLONE);
    const born = s.bare.events.find((e) => e.kind === E.PACKET_BORN)!;
    assert.equal(clones.length, 3);
    assert.ok(clones.every((e) => e.a === born.frame && e.frame !== born.frame));
    const outputs = s.bare.events.filter((e) => e.kind === E.DP_OUTPUT).map((e) => e.frame);
    assert.equal(new Set(outputs).size, 4);
    assert.ok(outputs.includes(born.frame));
  });

  test('the FDB says port, address and age', () => {
    const s = new Switch(kind, 3);
    s.send(1, frame(9, 1), 10);
    s.send(2, frame(9, 0x525400000002), 20);
    s.send(1, frame(9, 1), 25);
    assert.deepEqual(
      s.ofproto.entries(30e9).map((e) => [e.port, e.mac, e.age]),
      [
        [2, '52:54:00:00:00:02', 10],
        [1, '00:00:00:00:00:01', 5],
      ],
    );
    assert.equal(s.ofproto.entries(322e9).length, 1);
  });
});

test('kernel datapath: upcalls wait in a bounded queue; what does not fit is dropped as lost', () => {
  const s = new Switch('system', 2);
  s.answers = false;
  for (let i = 0; i < UPCALL_QUEUE + 7; i++) s.send(1, frame(2, 1), i / 1e9);
  const dp = s.bridge as KernelDatapath;
  assert.equal(dp.upcallsWaiting, UPCALL_QUEUE);
  assert.equal(dp.lost, 7);
  assert.equal(s.bare.count(E.DP_DROP_UPCALL_LOST), 7);
  assert.equal(dp.newFlowsAhead(64), 1, 'all of one flow');
  s.answer();
  assert.equal(dp.table.flows.length, 1);
  assert.equal(s.bare.count(E.DP_FLOW_PUT), 1, 'installed once');
  assert.equal(s.bare.count(E.DP_UPCALL), UPCALL_QUEUE);
  assert.equal(s.bare.services.pool.live, 0);
});

test('netdev datapath: statistics as pmd-stats-show names them add up', () => {
  const s = new Switch('netdev', 2);
  for (let i = 0; i < 3000; i++) s.send(1, frame(2, 1, i % 7), i / 1e6);
  const d = s.bridge;
  assert.ok(!(d instanceof KernelDatapath));
  assert.equal(d.packetsReceived, 3000);
  assert.equal(d.missWithSuccessUpcall, 1);
  assert.equal(d.emcHits + d.megaflowHits + d.missWithSuccessUpcall, 3000);
  // emc-insert-inv-prob 100: each of the seven enters after about 100 misses
  assert.equal(s.bare.count(E.DP_EMC_INSERT), 7);
  assert.equal(d.emcEntries, 7);
  assert.ok(d.emcHits > 1500);
});
