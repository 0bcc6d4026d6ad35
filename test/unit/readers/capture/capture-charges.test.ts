/** To which row an exit, a kick, an interrupt, a copy is charged; and the window in which rows wait for that. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { Capture, captureChunks } from '../../../../src/readers/capture/capture.ts';
import { R_TICKET, ROW_WORDS, RowWindow, WINDOW_NS } from '../../../../src/readers/capture/row-window.ts';
import { FakeWorld, frameBytes } from '../fake-world.ts';
import { type Decoded, decodePcapng, join } from '../pcapng-decoder.ts';
import { wordsOf } from '../worlds.ts';

/** A frame with bytes, not seen anywhere yet. */
function made(w: FakeWorld, time: number): number {
  const frame = w.newFrame();
  w.event(0, time, E.PACKET_BORN, 1, frame, 60, 1);
  w.version(0, time, 1, frame, frameBytes(frame, 60));
  return frame;
}
const words = (d: Decoded) => d.packets.map((p) => wordsOf(p.comments[0]!));
const journey = (w: FakeWorld): Record<string, string>[] => {
  w.publish();
  return words(decodePcapng(join(captureChunks(w.reader, { view: 'journey' }))));
};

test('a kick and its exit stand at the row of the driver, though the device was faster', () => {
  const w = new FakeWorld();
  const f = made(w, 0);
  w.event(0, 10, E.GUEST_XMIT, 1, f, 60);
  w.event(0, 20, E.VIRTQ_AVAIL, 2, f, 0, 1);
  w.event(1, 25, E.TAP_XMIT, 6, f, 60);
  w.event(1, 26, E.DP_INGRESS, 8, f, 60);
  w.event(0, 30, E.VIRTQ_KICK, 2, f, 1, 1);
  w.event(0, 30, E.KVM_EXIT_MMIO_USER, 5, f, 1, 1);
  const rows = journey(w);
  expect(rows.map((r) => [r['event'], r['kick'], r['exit'], r['exits']])).toEqual([
    ['guest.xmit', undefined, undefined, undefined],
    ['virtq.avail', '1', 'ept_misconfig_user', '1'],
    ['tap.xmit', undefined, undefined, undefined],
    ['dp.ingress', undefined, undefined, undefined],
  ]);
});

test('exits of several kinds are named once each and all counted', () => {
  const w = new FakeWorld();
  const f = made(w, 0);
  w.event(0, 20, E.VIRTQ_AVAIL, 2, f, 0, 1);
  for (const kind of [E.KVM_EXIT_MMIO_USER, E.KVM_EXIT_MMIO_KERNEL, E.KVM_EXIT_MMIO_USER, E.KVM_EXIT_HLT]) {
    w.event(0, 30, kind, 5, f);
  }
  expect(journey(w)[0]).toMatchObject({ exit: 'ept_misconfig_kernel,ept_misconfig_user,hlt', exits: '4' });
});

test('where the row has been written already, the frame’s next row has the charge', () => {
  const w = new FakeWorld();
  const f = made(w, 0);
  w.event(0, 20, E.VIRTQ_AVAIL, 2, f, 0, 1);
  w.event(2, 21, E.VIRTQ_USED, 11, f, 60, 0);
  w.publish();
  const capture = new Capture(w.reader, { view: 'journey' });
  const chunks = [capture.header(), ...capture.scan(), ...capture.flush()];
  w.event(0, 30, E.VIRTQ_KICK, 2, f, 1, 1);
  w.event(0, 30, E.KVM_EXIT_MMIO_KERNEL, 5, f, 1, 1);
  w.event(2, 31, E.VIRTQ_INTERRUPT, 11, 0, 0, 1);
  w.event(3, 50, E.GUEST_RX, 12, f, 60);
  w.publish();
  chunks.push(...capture.scan(), ...capture.flush(), capture.trailer());
  const rows = words(decodePcapng(join(chunks)));
  expect(rows.map((r) => [r['event'], r['kick'], r['exits'], r['irq']])).toEqual([
    ['virtq.avail', undefined, undefined, undefined],
    ['virtq.used', undefined, undefined, undefined],
    ['guest.rx', '1', '1', '1'],
  ]);
});

test('an interrupt is charged to each frame that it announces, and to no other', () => {
  const w = new FakeWorld();
  const [a, b, c, d] = [made(w, 0), made(w, 0), made(w, 0), made(w, 0)];
  w.event(2, 10, E.VIRTQ_USED, 11, a, 60, 0);
  w.event(2, 11, E.VIRTQ_INTERRUPT_SUPPRESSED, 11, 0, 0, 1);
  w.event(2, 12, E.VIRTQ_USED, 11, b, 60, 1);
  w.event(2, 13, E.VIRTQ_USED, 11, c, 60, 2);
  // another device on the same ring, and another ring, decide about theirs only
  w.event(1, 14, E.VIRTQ_USED, 11, d, 60, 3);
  w.event(2, 15, E.VIRTQ_INTERRUPT, 3, 0, 0, 1);
  w.event(2, 16, E.VIRTQ_INTERRUPT, 11, 0, 0, 3);
  w.event(2, 17, E.VIRTQ_INTERRUPT, 11, 0, 0, 3);
  expect(journey(w).map((r) => r['irq'])).toEqual([undefined, '1', '1', undefined]);
});

test('copies and cache go to the next row, also over a row that is not wanted', () => {
  const w = new FakeWorld();
  const f = made(w, 0);
  w.event(1, 10, E.PACKET_COPY, 4, f, 60, 0);
  w.event(1, 20, E.TAP_XMIT, 6, f, 60);
  w.event(1, 30, E.PACKET_COPY, 4, f, 72, 0);
  w.event(1, 40, E.DP_INGRESS, 8, f, 60);
  w.event(1, 50, E.DP_MISS, 7, f, 1, 1);
  w.event(1, 60, E.DP_OUTPUT, 9, f, 60);
  w.publish();
  const all = journey(w).map((r) => [r['copy'], r['copies'], r['cache'], r['cost']]);
  expect(all).toEqual([
    ['60', '1', undefined, '10'],
    ['72', '1', undefined, '20'],
    [undefined, undefined, 'miss', '20'],
  ]);
  const one = captureChunks(w.reader, { view: 'wire', points: ['br0/b.net0'] });
  expect(words(decodePcapng(join(one)))[0]).toMatchObject({ copy: '132', copies: '2', cache: 'miss', cost: '50' });
});

test('every row of a copied frame names its parent', () => {
  const w = new FakeWorld();
  const f = made(w, 0);
  w.event(1, 10, E.DP_INGRESS, 8, f, 60);
  const clone = w.newFrame();
  w.event(1, 20, E.PACKET_CLONE, 7, clone, f, 60);
  w.event(1, 30, E.DP_OUTPUT, 9, clone, 60);
  w.event(1, 40, E.TAP_ENQUEUE, 10, clone, 60);
  expect(journey(w).map((r) => r['parent'])).toEqual([undefined, String(f), String(f)]);
});

test('the window gives rows by time, equal ones in ring order, whatever context they come from', () => {
  const row = fc.record({ context: fc.nat(40), time: fc.nat(50) });
  fc.assert(
    fc.property(fc.array(row, { maxLength: 300 }), fc.integer({ min: 3, max: 300 }), (rows, capacity) => {
      const window = new RowWindow(capacity);
      const waiting: { slot: number; time: number; order: number }[] = [];
      const tickets = new Set<number>();
      const take = (): void => {
        const slot = window.ready(0, true);
        waiting.sort((x, y) => x.time - y.time || x.order - y.order);
        expect(slot).toBe(waiting.shift()!.slot);
        window.remove();
      };
      rows.forEach(({ context, time }, order) => {
        if (window.count === capacity || order % 7 === 3) if (waiting.length > 0) take();
        const slot = window.insert(time, context);
        expect(waiting.some((r) => r.slot === slot)).toBe(false);
        const ticket = window.words[slot * ROW_WORDS + R_TICKET]!;
        expect(tickets.has(ticket)).toBe(false);
        tickets.add(ticket);
        expect(window.holds(slot, ticket)).toBe(true);
        waiting.push({ slot, time, order });
        expect(window.count).toBe(waiting.length);
      });
      while (waiting.length > 0) take();
      expect(window.ready(0, true)).toBe(-1);
    }),
    { numRuns: 200 },
  );
});

test('a row is final once it is a window behind, or when room is short', () => {
  const window = new RowWindow(4);
  const first = window.insert(1000, 0);
  window.insert(1000 + WINDOW_NS - 1, 1);
  expect(window.ready(1, false)).toBe(-1);
  expect(window.ready(3, false)).toBe(first);
  window.insert(1000 + WINDOW_NS, 2);
  expect(window.ready(1, false)).toBe(first);
  window.remove();
  expect(window.ready(1, false)).toBe(-1);
});
