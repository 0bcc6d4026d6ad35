/** Bonds: who carries, and what happens when he cannot. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { TRUNK_OF_ALL } from '../../../../../src/machine/ovs/ofproto/bundle.ts';
import { OFPUTIL_PC_PORT_DOWN } from '../../../../../src/machine/ovs/ofproto/port.ts';
import { bytesOf, CaseSwitch } from './case-switch.ts';

const MS = 1e6;

function bonded(options: {
  mode?: 'active-backup' | 'balance-slb' | 'balance-tcp';
  primary?: string;
  up?: number;
  down?: number;
}) {
  const sw = new CaseSwitch();
  const bridge = sw.addBridge('br0', bytesOf('0200000000aa'), 'standalone');
  sw.addPort(bridge, 'p1', 1, 'dummy');
  for (const [name, number] of [
    ['b1', 11],
    ['b2', 12],
  ] as const)
    sw.addPort(bridge, name, number, 'dummy', { alone: false });
  const settings = {
    mode: options.mode ?? 'active-backup',
    primary: options.primary ?? null,
    upDelay: options.up ?? 0,
    downDelay: options.down ?? 0,
  } as const;
  const bundle = bridge.setBundle({ ...TRUNK_OF_ALL, name: 'bond0', ports: [11, 12], bond: settings }, sw.now);
  const bond = bundle.bond!;
  return { sw, bridge, bond, active: () => bond.active?.port.name ?? null };
}
const udp = (destination: string, source: string): Uint8Array =>
  bytesOf(
    `${destination}${source}08004500002400000000401166c70a0000010a00000203e807d000104e7e6162636465666768${'00'.repeat(10)}`,
  );

describe('bonds', () => {
  test('the first member carries until its link is down, and the other one stays when it is back', () => {
    const { sw, bridge, active } = bonded({});
    assert.equal(active(), 'b1');
    bridge.setLink(11, false, sw.now);
    assert.equal(active(), 'b2');
    bridge.setLink(11, true, sw.now);
    assert.equal(active(), 'b2');
    bridge.modPort(12, OFPUTIL_PC_PORT_DOWN, OFPUTIL_PC_PORT_DOWN, sw.now);
    assert.equal(active(), 'b1');
    bridge.removePort(11, sw.now);
    assert.equal(active(), null);
  });

  test('the primary carries whenever it can', () => {
    const { sw, bridge, active } = bonded({ primary: 'b2' });
    assert.equal(active(), 'b2');
    bridge.setLink(12, false, sw.now);
    assert.equal(active(), 'b1');
    bridge.setLink(12, true, sw.now);
    assert.equal(active(), 'b2');
  });

  test('delays pass before a member goes or comes; nobody waits where nobody carries', () => {
    const { sw, bridge, bond, active } = bonded({ up: 200, down: 100 });
    bridge.setLink(11, false, sw.now);
    assert.equal(active(), 'b1');
    bond.run(sw.now + 99 * MS);
    assert.equal(active(), 'b1');
    bond.run(sw.now + 100 * MS);
    assert.equal(active(), 'b2');
    sw.now += 100 * MS;
    bridge.setLink(11, true, sw.now);
    assert.deepEqual(
      bond.members.map(({ enabled }) => enabled),
      [false, true],
    );
    bond.run(sw.now + 200 * MS);
    assert.deepEqual(
      bond.members.map(({ enabled }) => enabled),
      [true, true],
    );
  });

  test('frames leave by the member that carries, and flows follow it', () => {
    const { sw, bridge } = bonded({});
    const frame = udp('000000000002', '000000000001');
    const { first } = sw.receive(frame, 'p1');
    assert.equal(sw.actionsText(first.actions), 'br0,b1');
    const before = sw.backer.generation;
    bridge.setLink(11, false, sw.now);
    assert.notEqual(sw.backer.generation, before);
    assert.equal(sw.actionsText(sw.backer.revalidate(sw.keyOf(frame, 'p1'), sw.now)!.actions), 'br0,b2');
  });

  test('balance-slb: one source keeps to one member; floods are taken from the active one alone', () => {
    const { sw } = bonded({ mode: 'balance-slb' });
    const used = new Set<string>();
    for (let source = 1; source < 30; source++) {
      const frame = udp('000000000063', source.toString(16).padStart(12, '0'));
      const text = sw.actionsText(sw.receive(frame, 'p1').first.actions);
      assert.equal(sw.actionsText(sw.receive(frame, 'p1').first.actions), text);
      used.add(text.split(',')[1]!);
    }
    assert.deepEqual([...used].sort(), ['b1', 'b2']);
    const broadcast = udp('ffffffffffff', '000000000077');
    assert.equal(sw.actionsText(sw.receive(broadcast, 'b2').first.actions), 'drop');
    assert.equal(sw.actionsText(sw.receive(broadcast, 'b1').first.actions), 'br0,p1');
  });

  test('balance-tcp needs LACP: without it nothing passes', () => {
    const { sw } = bonded({ mode: 'balance-tcp' });
    const out = sw.receive(udp('000000000002', '000000000001'), 'p1').first.actions;
    assert.equal(sw.actionsText(out), 'br0');
    assert.equal(sw.actionsText(sw.receive(udp('000000000001', '000000000009'), 'b1').first.actions), 'drop');
  });
});
