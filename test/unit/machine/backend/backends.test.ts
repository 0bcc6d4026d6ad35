/** What each back-end does of its own: batches, weights, wake-ups, system calls, receive rings that run empty. */

import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { SYS_ioctl, SYS_read, SYS_writev } from '../../../../src/machine/kvm/vm.ts';
import type { SplitDriverQueue } from '../../../../src/machine/virtio/queue/split-driver-queue.ts';
import {
  BACKENDS,
  collect,
  FrameAccount,
  makeWorld,
  pairDocument,
  ping,
  placeId,
  runOne,
  stepThrough,
  udp,
} from '../../lab/world-driver.ts';

describe('virtio-net in QEMU', () => {
  test('one system call for each frame and direction, one for each injected interrupt and each eventfd read', () => {
    const world = makeWorld(pairDocument('virtio-net'));
    runOne(world, ping('a/net0', 'b/net0', { count: 2 }));
    const calls = collect(world.machine, E.SCHED_SYSCALL, E.KVM_SIGNAL_MSI, E.EVENTFD_READ, E.TAP_DEQUEUE, E.TAP_XMIT);
    runOne(world, udp('a/net0', 'b/net0', { count: 500 }));
    const count = (kind: number): number => calls.filter((e) => e.kind === kind).length;
    const number = (n: number): number => calls.filter((e) => e.kind === E.SCHED_SYSCALL && e.a === n).length;
    assert.equal(number(SYS_writev), count(E.TAP_XMIT));
    assert.equal(number(SYS_read), count(E.TAP_DEQUEUE) + count(E.EVENTFD_READ));
    assert.equal(number(SYS_ioctl), count(E.KVM_SIGNAL_MSI));
    assert.equal(count(E.TAP_XMIT), 500);
  });

  test('each frame is put into the used ring and published by itself', () => {
    const world = makeWorld(pairDocument('virtio-net'));
    const published = collect(world.machine, E.VIRTQ_USED_IDX);
    runOne(world, udp('a/net0', 'b/net0', { count: 300, generator: 'pktgen' }));
    assert.ok(published.length >= 600);
    assert.ok(published.every((e) => e.a === 1));
  });

  test('a write to a doorbell that nobody owns is answered and forgotten', () => {
    const world = makeWorld(pairDocument('virtio-net', { nic: { ioeventfd: false } }));
    const write: (...parameters: number[]) => void = world.machine.guests[0]!.vm.onUserWrite as never;
    write(0xfe00_0000, 0, 0);
    assert.equal(runOne(world, udp('a/net0', 'b/net0')).received, 100);
  });
});

describe('vhost-net', () => {
  test('publishes batches of up to 64 frames, without system calls', () => {
    const world = makeWorld(pairDocument('vhost-net'));
    runOne(world, ping('a/net0', 'b/net0', { count: 2 }));
    const seen = collect(world.machine, E.VIRTQ_USED_IDX, E.SCHED_SYSCALL);
    runOne(world, udp('a/net0', 'b/net0', { count: 3000, generator: 'pktgen' }));
    const batches = seen.filter((e) => e.kind === E.VIRTQ_USED_IDX).map((e) => e.a);
    assert.equal(Math.max(...batches), 64);
    assert.equal(
      batches.reduce((a, b) => a + b),
      6000,
    );
    assert.equal(seen.filter((e) => e.kind === E.SCHED_SYSCALL).length, 0);
  });

  test('both directions get their turns at one worker', () => {
    const world = makeWorld(pairDocument('vhost-net', { nic: { tapQueueLength: 4000 } }));
    const kinds = [E.VIRTQ_TX_USED, E.VIRTQ_USED, E.VIRTQ_AVAIL, E.TAP_ENQUEUE, E.TAP_DEQUEUE] as const;
    const seen = collect(world.machine, ...kinds);
    const [rx, tx, tap] = ['a/net0/rx0', 'a/net0/tx0', 'br0/a.net0/tap'].map((name) => placeId(world.machine, name));
    world.startTraffic(udp('a/net0', 'b/net0', { count: 3000, generator: 'pktgen' }));
    runOne(world, udp('b/net0', 'a/net0', { count: 3000, generator: 'pktgen' }));
    // VHOST_NET_PKT_WEIGHT: while both have work, none has more than 256 frames and one batch in a row
    let toSend = 0;
    let toReceive = 0;
    let turn = 0;
    let row = 0;
    let turns = 0;
    let longest = 0;
    const count = (kind: number, otherWaits: boolean): void => {
      if (kind !== turn) turns++;
      row = kind === turn && otherWaits ? row + 1 : 1;
      turn = kind;
      longest = Math.max(longest, row);
    };
    for (const { kind, place } of seen) {
      if (place === tap && kind === E.TAP_ENQUEUE) toReceive++;
      else if (place === tap && kind === E.TAP_DEQUEUE) toReceive--;
      else if (place === tx && kind === E.VIRTQ_AVAIL) toSend++;
      else if (place === tx && kind === E.VIRTQ_TX_USED) {
        toSend--;
        count(kind, toReceive > 0);
      } else if (place === rx && kind === E.VIRTQ_USED) count(kind, toSend > 0);
    }
    assert.ok(turns > 10, `${turns} turns`);
    assert.ok(longest >= 256, `at most ${longest} in a row`);
    assert.ok(longest <= 256 + 64, `${longest} in a row`);
  });
});

describe('vhost-user', () => {
  test('bursts of up to 32 frames; the PMD polls on when idle, and idle polls are counted', () => {
    const world = makeWorld(pairDocument('vhost-user'));
    runOne(world, ping('a/net0', 'b/net0', { count: 2 }));
    const published = collect(world.machine, E.VIRTQ_USED_IDX);
    const pmd = world.machine.pmds[0]!.id;
    const polls = world.machine.scheduler.idlePolls[pmd]!;
    const from = world.now;
    runOne(world, udp('a/net0', 'b/net0', { count: 3000 }));
    runOne(world, udp('a/net0', 'b/net0', { count: 10, rate: 1000 }));
    assert.equal(Math.max(...published.map((e) => e.a)), 32);
    // 9 ms of waiting at a poll every 330 ns
    const grid = world.machine.catalog.costs['pmd_idle_iteration']!;
    const idle = world.machine.scheduler.idlePolls[pmd]! - polls;
    assert.ok(idle > 0.9 * (9e6 / grid) && idle * grid < world.now - from, `${idle} idle polls`);
  });

  test('a guest that posts no receive buffers loses what the switch sends it', () => {
    const world = makeWorld({
      ...pairDocument('vhost-user', { nic: { queueSize: 32 } }),
      costs: { virtio_pmd_per_packet: 1, vhost_enqueue: 1 },
    });
    const b = world.machine.guests[1]!;
    runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
    // b's vCPU is gone for good: its next step never comes
    b.vcpu.step = () => {
      world.machine.scheduler.next[b.vcpu.id] = Number.POSITIVE_INFINITY;
    };
    const r = runOne(world, udp('a/net0', 'b/net0', { count: 200 }));
    assert.equal(r.sent, 200);
    assert.equal(r.received, 32);
    assert.deepEqual(r.dropped, { 'vhost_user.rx_full': 168 });
    assert.ok(world.status().conservation.holds);
  });
});

describe.each(BACKENDS)('%s', (backend) => {
  test('a receive ring that runs empty fills again: nothing is lost but by a reason, nothing hangs', () => {
    // the receiver is slow, its ring short, the tap short
    const slow = backend === 'vhost-user' ? { virtio_pmd_per_packet: 2000 } : { guest_rx_per_packet: 20_000 };
    const world = makeWorld({ ...pairDocument(backend, { nic: { queueSize: 32, tapQueueLength: 40 } }), costs: slow });
    const account = new FrameAccount(world);
    const empty = collect(world.machine, E.VIRTQ_RX_EMPTY);
    const spec = udp('a/net0', 'b/net0', { count: 2000 });
    world.startTraffic(spec);
    stepThrough(world, () => account.check());
    const r = world.run(spec.id);
    assert.equal(r.state, 'SUCCEEDED', r.reason);
    const lost = Object.values(r.dropped).reduce((a, b) => a + b, 0);
    assert.equal(r.sent, r.received + lost);
    if (backend !== 'vhost-user')
      assert.ok(empty.length > 0 && r.dropped['tap.queue_full']! > 0, JSON.stringify(r.dropped));
    assert.equal(runOne(world, udp('a/net0', 'b/net0', { count: 20, rate: 1000 })).received, 20);
  });

  test('queues of every size carry everything, over the wrap of their indices', () => {
    for (const queueSize of [32, 1024]) {
      const world = makeWorld(pairDocument(backend, { nic: { queueSize, tapQueueLength: 65_536 } }));
      const r = runOne(world, udp('a/net0', 'b/net0', { count: 70_000, generator: null }));
      assert.equal(r.state, 'SUCCEEDED');
      const lost = Object.values(r.dropped).reduce((a, b) => a + b, 0);
      assert.equal(r.received + lost, 70_000);
      assert.equal(lost, 0, JSON.stringify(r.dropped));
      assert.ok(world.status().conservation.holds);
    }
  });
});

test('a guest with a broken ring harms nobody else: the device stops taking, others go on', () => {
  for (const backend of BACKENDS) {
    const world = makeWorld(pairDocument(backend, { guests: ['a', 'b', 'c'] }));
    const [a] = world.machine.guests;
    runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
    // a's driver publishes an index that is further ahead than the ring is long
    const nic = a!.nics[0]!.nic.pairs[0]!;
    const { layout } = nic.tx as SplitDriverQueue;
    const publish = nic.tx.publish.bind(nic.tx);
    nic.tx.publish = () => {
      publish();
      layout.u16[layout.availIdx] = (layout.u16[layout.availIdx]! + 5000) & 0xffff;
    };
    const broken = runOne(world, udp('a/net0', 'b/net0', { count: 10 }));
    assert.equal(broken.state, 'FAILED', backend);
    assert.equal(broken.received, 0);
    assert.equal(world.failed, null);
    const r = runOne(world, udp('c/net0', 'b/net0', { count: 200 }));
    assert.equal(r.received, 200, backend);
  }
});

test('a chain that points outside guest memory is dropped for its reason, and the ring goes on', () => {
  for (const backend of BACKENDS) {
    const world = makeWorld(pairDocument(backend));
    runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
    const account = new FrameAccount(world);
    const {
      nic: { pairs },
      guest,
    } = world.machine.guests[0]!.nics[0]!;
    const nic = pairs[0]!;
    const { layout } = nic.tx as SplitDriverQueue;
    const add = nic.tx.add.bind(nic.tx);
    let n = 0;
    nic.tx.add = (gpa: number, length: number, flags: number, frame: number) => {
      const head = add(gpa, length, flags, frame);
      // every third descriptor points behind the guest's RAM
      if (++n % 3 === 0) layout.u32[(layout.desc + 16 * head) >> 2] = guest.vm.ramBytes - 8;
      return head;
    };
    const spec = udp('a/net0', 'b/net0', { count: 90 });
    world.startTraffic(spec);
    stepThrough(world, () => account.check());
    const r = world.run(spec.id);
    assert.equal(r.state, 'SUCCEEDED');
    assert.deepEqual([r.received, r.dropped], [60, { 'virtq.bad_chain': 30 }], backend);
  }
});
