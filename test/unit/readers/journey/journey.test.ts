import { expect, test } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { findJourney, type Journey, type JourneyResult } from '../../../../src/readers/journey/journey.ts';
import { journeySvg } from '../../../../src/readers/journey/journey-svg.ts';
import { journeyText } from '../../../../src/readers/journey/journey-text.ts';
import { FakeWorld, frameBytes } from '../fake-world.ts';
import { floodedFrame, mergedFrames, segmentedFrame, vhostNetFrame } from '../journeys.ts';

function find(w: FakeWorld, frame: number): { result: JourneyResult; steps: number } {
  const search = findJourney(w.reader, frame);
  for (let steps = 0; ; steps++) {
    const { done, value } = search.next();
    if (done) return { result: value, steps };
  }
}
function found(w: FakeWorld, frame: number): Journey {
  const { result } = find(w, frame);
  if (result.kind !== 'found') throw new Error(`frame ${frame}: ${result.kind}`);
  return result.journey;
}

test('a frame over vhost-net: every step, what it cost, and totals that add up', () => {
  const w = new FakeWorld();
  const f = vhostNetFrame(w, 1_000_000);
  w.publish();
  const j = found(w, f);
  expect(j.outcome).toBe('delivered');
  expect(j.versions).toEqual([{ time: 0.001, bytes: 60, hex: Buffer.from(frameBytes(f, 60)).toString('hex') }]);
  expect(j.hops.map((h) => h.event)).toEqual([
    'packet.born',
    'guest.xmit',
    'virtq.avail',
    'virtq.pop',
    'packet.copy',
    'tap.xmit',
    'dp.ingress',
    'dp.hit',
    'dp.output',
    'tap.enqueue',
    'tap.dequeue',
    'packet.copy',
    'virtq.tx_used',
    'virtq.used',
    'guest.rx',
    'guest.deliver',
    'virtq.reclaim',
  ]);
  const avail = j.hops[2]!;
  expect(avail).toMatchObject({ place: 'a/net0/tx0', placeType: 'queue', context: 'a/vcpu0', sinceStartNs: 150 });
  expect(avail).toMatchObject({
    costNs: 1100,
    kicks: 1,
    exits: 1,
    charged: ['virtq.kick', 'kvm.exit_ept_misconfig_kernel'],
    exitsByReason: { 'kvm.exit_ept_misconfig_kernel': 1 },
    contextKind: 'vcpu',
    core: 0,
  });
  expect(j.hops[3]).toMatchObject({ event: 'virtq.pop', costNs: 0, waitedNs: 1900 });
  expect(j.hops[7]).toMatchObject({ cache: 'hit', probed: 1, place: 'br0', version: 0 });
  expect(j.hops[13]).toMatchObject({ interrupts: 1, charged: ['virtq.interrupt', 'eventfd.signal', 'kvm.irqfd'] });
  expect(j.hops.filter((h) => !h.onPath).map((h) => h.event)).toEqual(['virtq.tx_used', 'virtq.reclaim']);
  expect(j.totals).toEqual({
    latencyNs: 8300,
    processingNs: 1200 + 500 + 300 + 300,
    waitingNs: 1900 + 1400 + 2700,
    copies: 2,
    copiedBytes: 120,
    exits: 1,
    exitsByReason: { 'kvm.exit_ept_misconfig_kernel': 1 },
    kicks: 1,
    interrupts: 1,
  });
  expect(j.totals.processingNs + j.totals.waitingNs).toBe(j.totals.latencyNs);
  const path = j.hops.filter((h) => h.onPath);
  expect(path.reduce((n, h) => n + h.costNs + h.waitedNs, 0)).toBe(j.totals.latencyNs);
});

test('one notification announces a burst, and is shown with each of its frames', () => {
  const w = new FakeWorld();
  const frames = [w.newFrame(), w.newFrame(), w.newFrame()];
  for (const f of frames) w.event(0, 0, E.PACKET_BORN, 1, f, 60);
  w.event(2, 10, E.VIRTQ_USED, 11, frames[0], 60, 0);
  // Somebody else's notification, and this context's for another queue.
  w.event(1, 12, E.VIRTQ_INTERRUPT, 3, 0, 0, 1);
  w.event(2, 13, E.VIRTQ_INTERRUPT, 15, 0, 0, 1);
  w.event(2, 20, E.VIRTQ_USED, 11, frames[1], 60, 1);
  w.event(2, 30, E.VIRTQ_USED_IDX, 11, 0, 2, 2);
  w.event(2, 30, E.VIRTQ_INTERRUPT, 11, 0, 0, 2);
  w.event(2, 30, E.SCHED_SYSCALL, 13, 0, 16);
  w.event(2, 30, E.KVM_SIGNAL_MSI, 14, 0, 33);
  w.event(2, 40, E.VIRTQ_USED, 11, frames[2], 60, 2);
  w.event(2, 40, E.VIRTQ_INTERRUPT_SUPPRESSED, 11, 0, 0, 3);
  w.event(2, 50, E.VIRTQ_INTERRUPT, 11, 0, 0, 3);
  w.publish();
  const shown = ['virtq.interrupt', 'sched.syscall', 'kvm.signal_msi'];
  expect(frames.map((f) => found(w, f).hops.at(-1)!.charged)).toEqual([shown, shown, ['virtq.interrupt_suppressed']]);
  expect(frames.map((f) => found(w, f).totals.interrupts)).toEqual([1, 1, 0]);
});

test('the text ladder', () => {
  const w = new FakeWorld();
  const f = vhostNetFrame(w, 0);
  w.publish();
  const text = journeyText(found(w, f));
  expect(text.split('\n').slice(0, 2)).toEqual([
    'frame 1, 60 bytes: delivered',
    'latency 8300 ns = processing 2300 + waiting 6000; 2 copies (120 bytes), 1 VM exit, 1 kick, 1 interrupt',
  ]);
  expect(text).toMatch(/^5200 +200 +vhost-1202 +vhost-1202 +packet\.copy +copies 60 bytes$/m);
});

test('clones name their parent, have its bytes, and the parent lists them', () => {
  const w = new FakeWorld();
  const { parent, clone } = floodedFrame(w, 0);
  w.publish();
  const p = found(w, parent);
  const c = found(w, clone);
  expect(p.clones).toEqual([clone]);
  expect(p.outcome).toBe('dropped:dp.no_output');
  expect(c.parent).toBe(parent);
  expect(c.outcome).toBe('dropped:tap.queue_full');
  expect(c.dropReason).toBe('tap.queue_full');
  expect(c.hops.map((hop) => hop.drop)).toEqual([null, null, 'tap.queue_full']);
  expect(c.versions[0]!.hex).toBe(Buffer.from(frameBytes(parent, 60)).toString('hex'));
  expect(journeyText(c)).toMatch(/^frame 2, 60 bytes, a copy of frame 1: dropped:tap\.queue_full$/m);
});

for (const firstFrame of [0, 2 ** 32 - 2, 2 ** 33 + 5]) {
  test(`segments name their parent, have bytes of their own, and the parent ends in them (ids from ${firstFrame})`, () => {
    const w = new FakeWorld({ firstFrame });
    const { parent, segments } = segmentedFrame(w, 0);
    w.publish();
    const p = found(w, parent);
    expect(p).toMatchObject({ segments, clones: [], outcome: 'segmented', dropReason: null });
    expect(p.totals.latencyNs).toBe(500);
    for (const id of segments) {
      const s = found(w, id);
      expect(s).toMatchObject({ parent, segments: [], outcome: 'in flight' });
      expect(s.versions.map((v) => v.hex)).toEqual([Buffer.from(frameBytes(id, 120)).toString('hex')]);
      expect(journeyText(s)).toContain(`frame ${id}, 120 bytes, a segment of frame ${parent}: in flight`);
    }
    expect(journeyText(p)).toContain(`cut into frame ${segments[0]}, frame ${segments[1]}`);
    expect(journeySvg(p)).toContain(`cut into frame ${segments[0]}`);
  });

  test(`merged frames name each other (ids from ${firstFrame})`, () => {
    const w = new FakeWorld({ firstFrame });
    const { head, child } = mergedFrames(w, 0);
    w.publish();
    const h = found(w, head);
    expect(h).toMatchObject({ merged: [child], mergedInto: null, outcome: 'in flight' });
    expect(h.versions.map((v) => v.bytes)).toEqual([120, 186]);
    expect(found(w, child)).toMatchObject({ merged: [], mergedInto: head, outcome: 'merged' });
    expect(journeyText(found(w, child))).toContain(`merged into frame ${head}`);
  });
}

test('a frame on its way is in flight', () => {
  const w = new FakeWorld();
  const f = w.newFrame();
  w.event(0, 5, E.PACKET_BORN, 1, f, 60);
  w.event(0, 25, E.GUEST_XMIT, 1, f, 60);
  w.publish();
  expect(found(w, f)).toMatchObject({ outcome: 'in flight', versions: [], totals: { latencyNs: 20 } });
});

test('ids that no frame has are unknown, ids too old are gone with the oldest one held', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 14 });
  for (let i = 0; i < 3000; i++) vhostNetFrame(w, i * 10_000);
  w.publish();
  for (const id of [0, -1, 1.5, 3001, Number.NaN]) expect(find(w, id).result).toEqual({ kind: 'unknown' });
  const { result } = find(w, 1);
  if (result.kind !== 'gone') throw new Error(result.kind);
  expect(result.oldest).toBeGreaterThan(2500);
  expect(find(w, result.oldest - 1).result).toEqual(result);
  for (let id = result.oldest; id <= 3000; id += 7) expect(found(w, id).outcome).toBe('delivered');
});

test('a search goes to the frame by the block index, past the 32-bit wrap too', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 17, firstFrame: 2 ** 32 - 2000, firstByte: 2 ** 35 - 64_000 });
  const ids = Array.from({ length: 4000 }, (_, i) => vhostNetFrame(w, i * 10_000));
  w.publish();
  for (let i = 0; i < ids.length; i += 97) {
    const { result, steps } = find(w, ids[i]!);
    if (result.kind !== 'found') throw new Error(result.kind);
    expect(result.journey.hops.length).toBe(17);
    expect(result.journey.versions[0]!.hex).toBe(Buffer.from(frameBytes(ids[i]!, 60)).toString('hex'));
    expect(steps).toBeLessThan(12);
  }
});
