import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { NetCoalescing, NO_DEADLINE, waitsNoLonger } from '../../../../../src/machine/virtio/net/net-coalescing.ts';
import { VIRTQ_DESC_F_WRITE } from '../../../../../src/machine/wire/virtio-ring.ts';
import { AnyRing } from '../queue/any-ring.ts';
import { BUFFERS } from '../queue/ring.ts';

describe('coalescing of notifications', () => {
  it('none by default: every used buffer is due at once {net.ctrl.coal.13}', () => {
    const c = new NetCoalescing(2);
    assert.equal(c.used(0, 1, 0), true);
    c.notified(0);
    assert.equal(c.used(0, 3, 0), true);
    assert.equal(c.used(1, 0, 0), false, 'nothing was used');
  });
  it('waits for so many packets or so many microseconds, whichever comes first {net.ctrl.coal.11}', () => {
    const c = new NetCoalescing(2);
    c.set(0, 10, 4);
    assert.equal(c.used(0, 3, 1000), false);
    assert.equal(c.deadline(0), 11_000);
    assert.equal(c.due(0, 10_999), false);
    assert.equal(c.used(0, 1, 2000), true, 'the fourth');
    c.notified(0);
    assert.equal(c.deadline(0), NO_DEADLINE);
    assert.equal(c.due(0, 1e9), false);
    assert.equal(c.used(0, 1, 20_000), false, 'counted from its own time');
    assert.equal(c.due(0, 30_000), true);
    assert.equal(c.used(0, 1, 30_000), true, 'late already');
    c.set(1, 10, 0);
    assert.equal(c.used(1, 1000, 0), false, 'no limit of packets');
    c.set(1, 0, 8);
    assert.equal(c.used(1, 1, 0), true, 'nothing would ever send the last ones');
  });
  it('a queue that is enabled again has what was said for its kind last, or 0 {net.ctrl.coal.9} {net.ctrl.coal.10}', () => {
    const c = new NetCoalescing(4);
    const at = (queue: number): number[] => [c.max_usecs[queue]!, c.max_packets[queue]!];
    for (let queue = 0; queue < 4; queue++) {
      c.set(queue, 7, 7);
      c.queueEnabled(queue);
      assert.deepEqual(at(queue), [0, 0]);
    }
    c.setAll(1, 30, 9);
    c.setAll(0, 10, 4);
    c.set(3, 1, 1);
    c.set(2, 2, 2);
    assert.deepEqual(
      [at(0), at(1), at(2), at(3)],
      [
        [10, 4],
        [30, 9],
        [2, 2],
        [1, 1],
      ],
    );
    c.used(3, 0, 0);
    c.queueEnabled(3);
    c.queueEnabled(2);
    assert.deepEqual(
      [at(2), at(3)],
      [
        [10, 4],
        [30, 9],
      ],
    );
    c.reset();
    c.queueEnabled(3);
    assert.deepEqual(at(3), [0, 0]);
  });
  it('for random traffic: never later than asked, and with room never more often than packets or time allow', () => {
    const burst = fc.record({ gap: fc.nat(9000), packets: fc.integer({ min: 1, max: 5 }) });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 12 }),
        fc.array(burst),
        (usecs, packets, bursts) => {
          const c = new NetCoalescing(1);
          c.set(0, usecs, packets);
          let now = 0;
          let waiting: number[] = []; // times of the packets that nobody was told of
          const notify = (at: number): void => {
            assert.ok(waiting.length >= packets || at - waiting[0]! >= usecs * 1000, 'too early');
            assert.ok(at - waiting[0]! <= usecs * 1000, 'too late');
            waiting = [];
            c.notified(0);
          };
          for (const b of bursts) {
            // the timer, if it runs out before the next burst
            const deadline = c.deadline(0);
            if (deadline !== NO_DEADLINE && deadline <= now + b.gap) {
              assert.ok(!c.due(0, deadline - 1) && c.due(0, deadline));
              notify(deadline);
            }
            now += b.gap;
            for (let i = 0; i < b.packets; i++) waiting.push(now);
            if (c.used(0, b.packets, now)) notify(now);
            assert.ok(waiting.length < packets);
          }
        },
      ),
      { verbose: 1 },
    );
  });
  for (const packed of [false, true]) {
    for (const eventIdx of [false, true]) {
      it(`no interrupt where the driver wants none, whatever is coalesced: ${packed ? 'packed' : 'split'}${eventIdx ? ', event idx' : ''} {net.ctrl.coal.12}`, () => {
        const ring = new AnyRing({ packed, eventIdx, size: 8 });
        const c = new NetCoalescing(2);
        c.set(0, 10, 2);
        const chain = { head: 0, readable: [], writable: [] };
        let now = 0;
        const due = (packets: number, at: number): boolean =>
          waitsNoLonger(ring.device, c, 0, packets, at) && ring.device.interruptWanted();
        /** The driver posts a buffer, the device uses it. */
        const use = (): boolean => {
          ring.driver.add(BUFFERS, 64, VIRTQ_DESC_F_WRITE, 0);
          ring.driver.publish();
          assert.equal(ring.device.takeChain(chain), 1);
          ring.device.usedChain(chain.head, 8);
          return due(1, now);
        };
        const drain = (): void => {
          while (ring.driver.usedReady() > 0) ring.driver.takeUsed();
        };
        ring.driver.enableInterrupts();
        assert.deepEqual([use(), use()], [false, true], 'wanted: with the second packet');
        drain();
        ring.driver.enableInterrupts();
        assert.equal(use(), false);
        now = 10_000;
        assert.equal(due(0, now - 1), false);
        assert.equal(due(0, now), true, 'wanted: when the time is over');
        drain();
        ring.driver.disableInterrupts();
        assert.deepEqual([use(), use()], [false, false], 'not wanted: not with the second packet');
        assert.equal(use(), false);
        assert.equal(due(0, now + 10_000), false, 'nor when the time is over');
      });
    }
  }
});
