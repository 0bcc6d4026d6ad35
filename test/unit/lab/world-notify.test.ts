/**
 * Kicks, exits, interrupts and copies as the rings' words bring them about. Golden counts: QEMU 7.2.22 with Linux 6.1
 * guests (virtio-net through ioeventfd, and vhost-net), one frame under way at a time: the transmit queue has one kick and
 * one interrupt a frame, the receive queue no kick and one interrupt.
 */
import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { queueState } from '../../../src/lab/inspect-queue.ts';
import type { RunResult } from '../../../src/lab/protocol.ts';
import {
  collect,
  full,
  makeWorld,
  pairDocument,
  ping,
  placeId,
  pvpDocument,
  runOne,
  runOut,
  udp,
} from './world-driver.ts';

const PINGS = full ? 5000 : 200;
const EVENT_IDX_OFF = { features: { VIRTIO_RING_F_EVENT_IDX: false } };

const queue = (r: RunResult, guest: string, name: string) =>
  r.queues.find((q) => q.guest === guest && q.queue === name)!;

describe.each(['virtio-net', 'vhost-net'] as const)('%s, one echo at a time', (backend) => {
  test.each([
    ['with event idx', {}],
    ['with flags', EVENT_IDX_OFF],
  ])('%s: tx 1 kick and 1 interrupt, rx 0 kicks and 1 interrupt, per frame and direction', (_, nic) => {
    const world = makeWorld(pairDocument(backend, { nic }));
    runOne(world, ping('a/net0', 'b/net0', { count: 3 })); // ARP and the first upcalls are over
    const r = runOne(world, ping('a/net0', 'b/net0', { count: PINGS }));
    expect(r).toMatchObject({ state: 'SUCCEEDED', sent: PINGS, received: PINGS, dropped: {} });
    for (const guest of ['a', 'b']) {
      expect(queue(r, guest, 'tx0')).toMatchObject({ kicks: PINGS, interrupts: PINGS });
      expect(queue(r, guest, 'rx0')).toMatchObject({ kicks: 0, interrupts: PINGS });
    }
    // perFrame counts both directions: 2 * PINGS frames
    expect(r.perFrame).toMatchObject({ exitsKernel: 1, exitsUserspace: 0, kicks: 1, interrupts: 2 });
    expect(r.exitsByReason['EPT_MISCONFIG']).toBe(2 * PINGS);
  });
});

test('QEMU without ioeventfd answers every kick in userspace, with it in the kernel', () => {
  for (const ioeventfd of [true, false]) {
    const world = makeWorld(pairDocument('virtio-net', { nic: { ioeventfd } }));
    const slow = runOne(world, udp('a/net0', 'b/net0', { count: 100, rate: 1000 }));
    expect(slow.perFrame.kicks).toBeGreaterThanOrEqual(1);
    const { kicks, exitsKernel, exitsUserspace } = slow.perFrame;
    expect([exitsKernel, exitsUserspace]).toEqual(ioeventfd ? [kicks, 0] : [0, kicks]);
    const fast = runOne(world, udp('a/net0', 'b/net0', { count: 5000 }));
    expect(fast.state).toBe('SUCCEEDED');
    expect(fast.perFrame.kicks).toBeLessThan(0.1);
    expect(ioeventfd ? fast.perFrame.exitsUserspace : fast.perFrame.exitsKernel).toBe(0);
  }
});

test('every kick is one exit, and every interrupt one injection, in all runs', () => {
  for (const backend of ['virtio-net', 'vhost-net'] as const) {
    for (const nic of [{}, EVENT_IDX_OFF]) {
      const world = makeWorld(pairDocument(backend, { nic }));
      const seen = collect(
        world.machine,
        E.VIRTQ_KICK,
        E.KVM_EXIT_MMIO_KERNEL,
        E.VIRTQ_INTERRUPT,
        E.KVM_IRQFD,
        E.KVM_SIGNAL_MSI,
      );
      runOne(world, udp('a/net0', 'b/net0', { count: 3000 }));
      runOne(world, ping('b/net0', 'a/net0', { count: 30 }));
      const count = (kind: number): number => seen.filter((e) => e.kind === kind).length;
      assert.ok(count(E.VIRTQ_KICK) > 0);
      assert.equal(count(E.VIRTQ_KICK), count(E.KVM_EXIT_MMIO_KERNEL));
      assert.equal(count(E.VIRTQ_INTERRUPT), count(backend === 'vhost-net' ? E.KVM_IRQFD : E.KVM_SIGNAL_MSI));
      assert.equal(count(backend === 'vhost-net' ? E.KVM_SIGNAL_MSI : E.KVM_IRQFD), 0);
    }
  }
});

test('vhost-user with a polling driver: no exits, no kicks, no interrupts, no copies but two', () => {
  const world = makeWorld(pairDocument('vhost-user'));
  for (const spec of [udp('a/net0', 'b/net0', { count: 3000 }), udp('a/net0', 'b/net0', { count: 30, rate: 1000 })]) {
    const r = runOne(world, spec);
    expect(r.perFrame).toMatchObject({
      exitsKernel: 0,
      exitsUserspace: 0,
      kicks: 0,
      interrupts: 0,
      copies: 2,
      syscalls: 0,
    });
    expect(Object.values(r.exitsByReason).every((n) => n === 0)).toBe(true);
  }
  const r = runOne(world, ping('a/net0', 'b/net0', { count: 20 }));
  expect(r.perFrame).toMatchObject({ exitsKernel: 0, exitsUserspace: 0, kicks: 0, interrupts: 0, copies: 2 });
});

test('vhost-user with a kernel driver and event idx rings once in 65,536 frames', () => {
  const world = makeWorld(pairDocument('vhost-user', { nic: { driver: 'virtio-net' } }));
  const kicks = collect(world.machine, E.VIRTQ_KICK);
  const tx = placeId(world.machine, 'a/net0/tx0');
  // nothing but ARP was sent yet; DPDK leaves avail_event at 0, so the kick comes as avail_idx goes through 1
  const frames = 140_000;
  const r = runOne(world, udp('a/net0', 'b/net0', { count: frames, generator: 'pktgen' }));
  expect(r.state).toBe('SUCCEEDED');
  const rung = kicks.filter((e) => e.place === tx);
  expect(rung.length).toBeGreaterThanOrEqual(2);
  expect(rung.length).toBeLessThanOrEqual(3);
  // where it rings, avail.idx went through avail_event, which is 0 for ever; a burst of pktgen is published at once
  for (const e of rung) expect(e.b).toBeLessThanOrEqual(64);
  expect(r.perFrame.interrupts).toBeGreaterThan(0);
});

test('vhost-user with a kernel driver and flags: VRING_USED_F_NO_NOTIFY stands, nobody rings {split.availsupp.3} {split.availsupp.9}', () => {
  const world = makeWorld(pairDocument('vhost-user', { nic: { driver: 'virtio-net', ...EVENT_IDX_OFF } }));
  const r = runOne(world, udp('a/net0', 'b/net0', { count: 2000 }));
  expect(r).toMatchObject({ state: 'SUCCEEDED', perFrame: { kicks: 0, exitsKernel: 0, exitsUserspace: 0 } });
  const state = queueState(world.machine, world.machine.guests[0]!.nics[0]!, 'tx0');
  expect(state.used!.flags).toBe(1);
  expect(state.suppression).toMatchObject({ eventIdx: false, kicksWanted: false });
});

test.each([
  ['virtio-net', 3],
  ['vhost-net', 2],
  ['vhost-user', 2],
] as const)('%s: a frame is copied %i times by the host, from guest to guest', (backend, copies) => {
  const world = makeWorld(pairDocument(backend));
  runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
  for (const frameSize of [64, 1518]) {
    const r = runOne(world, udp('a/net0', 'b/net0', { count: 1000, frameSize }));
    expect(r.perFrame.copies).toBe(copies);
    // the header of 12 bytes travels too
    expect(r.perFrame.copiedBytes).toBe(copies * (frameSize - 4 + 12));
    expect(r.perFrame.guestCopies).toBe(1);
  }
});

test('the wire and a NIC: what DMA moves is no copy', () => {
  const world = makeWorld(pvpDocument());
  const r = runOne(world, udp('eth0', 'eth0', { count: 500, rate: 500_000 }));
  expect(r).toMatchObject({
    received: 500,
    perFrame: { copies: 2, exitsKernel: 0, exitsUserspace: 0, guestCopies: 0 },
  });
  expect(r.perFrame.dmaTransfers).toBeGreaterThanOrEqual(2);
});

test('event idx saves notifications, and only where the words say so', () => {
  for (const backend of ['virtio-net', 'vhost-net'] as const) {
    const run = (nic: object): RunResult =>
      runOne(makeWorld(pairDocument(backend, { nic })), udp('a/net0', 'b/net0', { count: 20_000 }));
    const on = run({});
    const off = run(EVENT_IDX_OFF);
    expect(on.received + off.received).toBe(40_000);
    // a worker that batches leaves less to save
    expect(off.perFrame.interrupts).toBeGreaterThan((backend === 'virtio-net' ? 3 : 1.2) * on.perFrame.interrupts);
    expect(off.perFrame.kicks).toBeGreaterThanOrEqual(on.perFrame.kicks);
  }
});

test('every decision about a notification follows from the ring, recomputed from what was recorded {split.usedsupp.10} {split.usedsupp.11}', () => {
  for (const backend of ['virtio-net', 'vhost-net', 'vhost-user'] as const) {
    for (const driver of backend === 'vhost-user' ? ['virtio-net', 'virtio-pmd'] : ['virtio-net']) {
      const world = makeWorld(pairDocument(backend, { nic: { driver } }));
      const places = world.machine.catalog.places.filter((p) => p.type === 'queue').map((p) => p.id);
      const eventIdx = driver === 'virtio-net';
      if (!eventIdx) continue; // the polling driver's flags are checked above: 0 of everything
      // what is asked comes in order: the index at the last question is the `old` of the next one (virtio 1.2 §2.7.10.1)
      const used = new Map<number, number>();
      let checked = 0;
      const events = collect(world.machine, E.VIRTQ_INTERRUPT, E.VIRTQ_INTERRUPT_SUPPRESSED);
      runOne(world, udp('a/net0', 'b/net0', { count: 4000 }));
      runOne(world, ping('a/net0', 'b/net0', { count: 40 }));
      for (const e of events) {
        assert.ok(places.includes(e.place));
        const old = used.get(e.place);
        used.set(e.place, e.b);
        if (old === undefined) continue;
        const crossed = ((e.b - e.a - 1) & 0xffff) < ((e.b - old) & 0xffff);
        assert.equal(e.kind === E.VIRTQ_INTERRUPT, crossed, `used_event ${e.a}, used_idx ${old} to ${e.b}`);
        checked++;
      }
      assert.ok(checked > 100);
    }
  }
});

test('pktgen posts indirect tables where the feature allows, chains elsewhere {split.indirect.1}', () => {
  for (const indirect of [true, false]) {
    const world = makeWorld(
      pairDocument('vhost-net', { nic: { features: { VIRTIO_RING_F_INDIRECT_DESC: indirect } } }),
    );
    const r = runOne(world, udp('a/net0', 'b/net0', { count: 300, generator: 'pktgen' }));
    expect(r).toMatchObject({ state: 'SUCCEEDED', sent: 300 });
    const state = queueState(world.machine, world.machine.guests[0]!.nics[0]!, 'tx0');
    const flags = new Set(state.avail!.ring.slice(0, 200).flatMap((head) => state.desc[head]!.flags));
    expect([...flags]).toEqual(indirect ? ['VIRTQ_DESC_F_INDIRECT'] : ['VIRTQ_DESC_F_NEXT']);
  }
});

test('a slow tap reader lets the vhost worker batch: fewer wake-ups than frames, none missed', () => {
  const world = makeWorld(pairDocument('vhost-net'));
  const r = runOne(world, udp('a/net0', 'b/net0', { count: 10_000 }));
  expect(r.received).toBe(10_000);
  expect(r.perFrame.wakeups).toBeLessThan(0.5);
  runOut(world);
});
