/** The MAC table as ovs lib/mac-learning.c keeps it. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import type { Bundle } from '../../../../../src/machine/ovs/ofproto/bundle.ts';
import { MacTable, macNumber, macText } from '../../../../../src/machine/ovs/ofproto/mac-table.ts';
import { isGroupMac } from '../../../../../src/machine/wire/ethernet.ts';

const S = 1e9;
/** A port is told by being itself; `bond` alone is looked at. */
const port = (name: string, bond = false): Bundle => ({ name, bond: bond ? {} : null }) as unknown as Bundle;

class Table {
  changes = 0;
  learned = 0;
  refreshed = 0;
  refresh: () => void = () => {};
  readonly macs = new MacTable(
    () => this.changes++,
    () => this.learned++,
    () => {
      this.refreshed++;
      this.refresh();
    },
  );
  rows(now: number): string[] {
    return Array.from(this.macs.entries(now), (e) => `${e.bundle.name} ${e.vlan} ${e.mac} ${this.macs.age(e, now)}`);
  }
}

describe('MAC table', () => {
  test('addresses are numbers of 48 bits', () => {
    const bytes = Uint8Array.of(0, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa);
    assert.equal(macNumber(bytes, 1), 0xffeeddccbbaa);
    assert.equal(macText(0xffeeddccbbaa), 'ff:ee:dd:cc:bb:aa');
    assert.equal(macText(1), '00:00:00:00:00:01');
    assert.ok(isGroupMac(0x0100_5e00_0001) && isGroupMac(0xffffffffffff) && !isGroupMac(0xfe0000000001));
  });

  test('an address is known for 300 s from the last frame, by whole seconds', () => {
    const t = new Table();
    const a = port('a');
    assert.equal(t.macs.update(1, 0, false, a, 10.9 * S), true);
    assert.equal(t.macs.update(1, 0, false, a, 20.2 * S), false);
    assert.equal(t.learned, 1);
    assert.deepEqual(t.rows(25 * S), ['a 0 1 5']);
    assert.equal(t.macs.lookup(1, 0, 319.9 * S)?.bundle, a);
    assert.equal(t.macs.lookup(1, 0, 320 * S), null);
    assert.deepEqual([t.macs.size, t.macs.stats.expired], [0, 1]);
  });

  test('ages are brought up to date before anything is forgotten', () => {
    const t = new Table();
    const a = port('a');
    t.macs.update(1, 0, false, a, 0);
    t.macs.run(299 * S);
    assert.equal(t.refreshed, 0);
    t.refresh = () => t.macs.update(1, 0, false, a, 290 * S);
    assert.equal(t.macs.lookup(1, 0, 301 * S)?.bundle, a);
    assert.equal(t.refreshed, 1);
  });

  test('a move counts and changes translations; what was counted before it does not move it back', () => {
    const t = new Table();
    const [a, b] = [port('a'), port('b')];
    t.macs.update(1, 0, false, a, 1 * S);
    const before = t.changes;
    assert.equal(t.macs.update(1, 0, false, b, 2 * S), true);
    assert.ok(t.changes > before);
    assert.equal(t.macs.update(1, 0, false, a, 1.5 * S), false);
    assert.equal(t.macs.lookup(1, 0, 3 * S)?.bundle, b);
    assert.deepEqual(t.macs.stats, { learned: 1, expired: 0, evicted: 0, moved: 1 });
  });

  test('the same address in two VLANs is two', () => {
    const t = new Table();
    t.macs.update(1, 10, false, port('a'), 0);
    t.macs.update(1, 20, false, port('b'), 0);
    assert.deepEqual(t.rows(0), ['a 10 1 0', 'b 20 1 0']);
  });

  test('flood VLANs and group addresses are not learned; a VLAN that becomes one is forgotten with all others', () => {
    const t = new Table();
    const a = port('a');
    assert.equal(t.macs.update(0x010000000001, 0, false, a, 0), false);
    t.macs.update(1, 10, false, a, 0);
    t.macs.configure(300, 8192, [10], 1);
    assert.equal(t.macs.size, 0);
    assert.equal(t.macs.update(1, 10, false, a, 2), false);
    assert.equal(t.macs.update(1, 11, false, a, 2), true);
  });

  test('a full table forgets the longest unused address of the port that has most', () => {
    const t = new Table();
    const [a, b] = [port('a'), port('b')];
    t.macs.configure(300, 10, [], 0);
    t.macs.update(100, 0, false, b, 0);
    for (let mac = 1; mac <= 9; mac++) t.macs.update(mac, 0, false, a, mac * S);
    t.macs.update(1, 0, false, a, 20 * S);
    t.macs.update(101, 0, false, b, 21 * S);
    assert.equal(t.macs.lookup(2, 0, 22 * S), null);
    assert.ok(t.macs.lookup(1, 0, 22 * S) && t.macs.lookup(100, 0, 22 * S) && t.macs.lookup(101, 0, 22 * S));
    assert.equal(t.macs.stats.evicted, 1);
  });

  test('times out of bounds are taken as the nearest that are in them, and what is known ages by the new one', () => {
    const t = new Table();
    t.macs.update(1, 0, false, port('a'), 0);
    t.macs.configure(1, 5, [], 10 * S);
    assert.deepEqual([t.macs.idleTime, t.macs.maxEntries], [15, 10]);
    assert.equal(t.macs.lookup(1, 0, 15 * S), null);
    t.macs.configure(1e6, 1e9, [], 20 * S);
    assert.deepEqual([t.macs.idleTime, t.macs.maxEntries], [3600, 1e6]);
  });

  test('a gratuitous ARP that comes back over a bond within 5 s is not learned from', () => {
    const t = new Table();
    const [a, bond] = [port('a'), port('bond', true)];
    t.macs.update(1, 0, true, a, 0);
    assert.equal(t.macs.update(1, 0, true, bond, 4 * S), false);
    assert.equal(t.macs.lookup(1, 0, 4 * S)?.bundle, a);
    assert.equal(t.macs.update(1, 0, true, bond, 6 * S), true);
  });

  test('a static entry neither ages nor moves, and goes with its port', () => {
    const t = new Table();
    const [a, b] = [port('a'), port('b')];
    t.macs.addStatic(1, 0, a);
    assert.equal(t.macs.update(1, 0, false, b, 1 * S), false);
    t.macs.flush();
    assert.deepEqual(t.rows(1e6 * S), ['a 0 1 null']);
    t.macs.flushBundle(a);
    assert.equal(t.macs.size, 0);
    assert.equal(t.macs.remove(1, 0), false);
  });

  test('it knows what a list of the last frames knows (seed printed on failure)', () => {
    const step = fc.record({
      mac: fc.integer({ min: 1, max: 8 }),
      vlan: fc.constantFrom(0, 5),
      port: fc.nat(2),
      wait: fc.integer({ min: 0, max: 9 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const t = new Table();
        t.macs.configure(15, 8192, [], 0);
        const ports = [port('a'), port('b'), port('c')];
        const model = new Map<string, { at: number; second: number }>();
        let now = 0;
        for (const { mac, vlan, port: at, wait } of steps) {
          now += wait * S;
          t.macs.update(mac, vlan, false, ports[at]!, now);
          model.set(`${mac}/${vlan}`, { at, second: now / S });
          for (const [key, { at: where, second }] of model) {
            const [m, v] = key.split('/').map(Number);
            const wanted = now / S - second < 15 ? ports[where] : undefined;
            assert.equal(t.macs.lookup(m!, v!, now)?.bundle, wanted);
          }
        }
      }),
      { numRuns: 60 },
    );
  });
});
