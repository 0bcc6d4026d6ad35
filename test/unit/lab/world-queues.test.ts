/** Worlds whose NICs have several queue pairs: who serves which, where flows go, what it brings. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { RingReader } from '../../../src/engine/event-ring.ts';
import * as E from '../../../src/engine/events.ts';
import { NEVER } from '../../../src/engine/timeline.ts';
import { buildMachine } from '../../../src/lab/builder.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { learnedState, Rehearsal } from '../../../src/lab/dry-run.ts';
import { deviceState } from '../../../src/lab/inspect.ts';
import { nicState } from '../../../src/lab/inspect-nic.ts';
import { queueState } from '../../../src/lab/inspect-queue.ts';
import type { FramesSpec } from '../../../src/lab/protocol.ts';
import { World } from '../../../src/lab/world.ts';
import { vqPairsSet } from '../../../src/machine/guest/net-commands.ts';
import { VirtioPciDevice } from '../../../src/machine/virtio/pci-transport.ts';
import { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET } from '../../../src/machine/wire/virtio-net-ctrl.ts';
import { findJourney, type Journey } from '../../../src/readers/journey/journey.ts';
import { contextOf, document, flows, queuesOf, settled, world4 } from './queue-worlds.ts';
import { BACKENDS, collect, FrameAccount, placeId, runOne, stepThrough, traffic, udp, watch } from './world-driver.ts';

describe.each(BACKENDS)('%s', (backend) => {
  test.each(['virtio-net', 'virtio-pmd'] as const)(
    '%s uses all four pairs, for sending and for receiving',
    (driver) => {
      const world = world4(backend, { nic: { driver }, pmds: 4 });
      const sent = collect(world.machine, E.VIRTQ_AVAIL);
      const used = collect(world.machine, E.VIRTQ_USED);
      settled(runOne(world, flows()));
      assert.deepEqual(queuesOf(world, 'a', sent), ['tx0', 'tx1', 'tx2', 'tx3']);
      assert.deepEqual(queuesOf(world, 'b', used), ['rx0', 'rx1', 'rx2', 'rx3']);
      assert.ok(world.status().conservation.holds);
      assert.equal(world.failed, null);
    },
  );

  test('every receive queue in use is filled, and no other is touched: with two vCPUs two of four pairs {net.rx.setup.5} {net.ctrl.mq.4} {net.ctrl.mq.6}', () => {
    const world = world4(backend, { guest: { vcpus: 2 }, pmds: 4 });
    const posted = collect(world.machine, E.VIRTQ_AVAIL_IDX);
    const sent = collect(world.machine, E.VIRTQ_AVAIL);
    const used = collect(world.machine, E.VIRTQ_USED);
    settled(runOne(world, flows()));
    assert.deepEqual(queuesOf(world, 'b', posted), ['rx0', 'rx1']);
    assert.deepEqual(queuesOf(world, 'a', sent), ['tx0', 'tx1']);
    assert.deepEqual(queuesOf(world, 'b', used), ['rx0', 'rx1']);
    const b = world.machine.guests[1]!;
    assert.deepEqual(
      b.nics[0]!.nic.pairs.map((pair) => pair.rx.num_free < pair.rx.size),
      [true, true, false, false],
    );
    assert.equal(b.nics[0]!.nic.active, 2);
    assert.deepEqual(
      world.machine.catalog.places.filter((p) => p.type === 'vcpu' && p.guest === 'b').map((p) => p.name),
      ['b/vcpu0', 'b/vcpu1'],
    );
  });

  test('the driver sets all queues up, then asks for the pairs; until it is answered it sends nothing {net.ctrl.mq.1} {net.ctrl.mq.3}', () => {
    for (const driver of ['virtio-net', 'virtio-pmd'] as const) {
      const options = { nic: { driver }, pmds: 4, guest: { vcpus: 4 } };
      const parsed = parseTopology(document(backend, options, [{ name: 'eth0' }]), { name: 't' });
      assert.ok(parsed.ok);
      const machine = buildMachine(parsed.topology);
      const { places } = machine.catalog;
      const asked = (VIRTIO_NET_CTRL_MQ << 8) | VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
      const enabled = new Set<number>();
      const before: string[] = [];
      let answers = 0;
      watch(machine, (e) => {
        const { name } = places[e.place]!;
        if (!name.startsWith('a/net0')) return;
        if (e.kind === E.VIRTIO_QUEUE_ENABLE) enabled.add(e.a);
        else if (e.kind === E.VIRTIO_NET_CTRL_SENT && e.a === asked) assert.equal(enabled.size, 9, 'eight and its own');
        else if (e.kind === E.VIRTIO_NET_CTRL && e.a === asked) answers++;
        else if (e.kind === E.VIRTQ_AVAIL && answers === 0 && name.includes('/tx')) before.push(name);
      });
      const { nic } = machine.guests[0]!.nics[0]!;
      assert.equal(nic.active, 1, 'before the guest has booted');
      const world = new World(parsed.topology, machine);
      assert.equal(answers, 1);
      assert.deepEqual(before, [], 'nothing was sent before');
      assert.equal(nic.active, 4);
      const sent = collect(world.machine, E.VIRTQ_AVAIL);
      runOne(world, udp('a/net0', 'eth0', { count: 500, flows: 16 }));
      assert.deepEqual(queuesOf(world, 'a', sent), ['tx0', 'tx1', 'tx2', 'tx3']);
    }
  });

  test('a driver that wants fewer pairs than before gets frames on these only, and loses none of those that waited {net.ctrl.mq.6}', () => {
    const world = world4(backend, { pmds: 4 });
    const { nic, guest, wiring } = world.machine.guests[1]!.nics[0]!;
    runOne(world, flows({ count: 100 }));
    let answered = false;
    const before = new Set<string>();
    const after = new Set<string>();
    watch(world.machine, (e) => {
      const { name } = world.machine.catalog.places[e.place]!;
      if (!name.startsWith('b/net0/')) return;
      if (e.kind === E.VIRTIO_NET_CTRL) answered = true;
      else if (e.kind === E.VIRTQ_USED) (answered ? after : before).add(name);
    });
    const spec = flows({ count: 3000 });
    world.startTraffic(spec);
    const { scheduler } = world.machine;
    const waits = (): boolean =>
      !('tap' in wiring) || wiring.tap.queues.slice(2).every((queue) => queue.queue.length > 0);
    while ((before.size < 4 || !waits()) && scheduler.earliest() !== NEVER) scheduler.run(NEVER, 1);
    guest.vcpu.command(nic, [vqPairsSet(2)]);
    while (world.turn(1000) === 0);
    settled(world.run(spec.id));
    assert.ok(answered);
    assert.equal(before.size, 4, 'all queues were in use');
    assert.deepEqual([...after].sort(), ['b/net0/rx0', 'b/net0/rx1']);
    assert.equal(nic.active, 2);
    assert.ok(world.status().conservation.holds);
  });

  test('a driver that wants more pairs than before fills their rings, and gets frames there', () => {
    const world = world4(backend, { pmds: 4, guest: { vcpus: 2 } });
    const { nic, guest } = world.machine.guests[1]!.nics[0]!;
    guest.vcpu.command(nic, [vqPairsSet(4)]);
    while (world.turn(1000) === 0);
    assert.equal(nic.active, 4);
    const used = collect(world.machine, E.VIRTQ_USED);
    settled(runOne(world, flows()));
    // two PMDs poll the two queues on which the other guest sends
    const expected = backend === 'vhost-user' ? ['rx1', 'rx2'] : ['rx0', 'rx1', 'rx2', 'rx3'];
    assert.deepEqual(queuesOf(world, 'b', used), expected);
  });

  test('a queue interrupts the vCPU that serves its pair, and the work is done there', () => {
    const world = world4(backend, { pmds: 4 });
    const irqs = collect(world.machine, E.GUEST_IRQ, E.GUEST_NAPI_POLL, E.GUEST_XMIT);
    const messages = collect(world.machine, E.KVM_IRQFD, E.KVM_SIGNAL_MSI);
    settled(runOne(world, flows()));
    const served = new Set(
      irqs
        .filter((e) => e.kind !== E.GUEST_XMIT)
        .map((e) => {
          const { name } = world.machine.catalog.places[e.place]!;
          const [guest, , queue] = name.split('/');
          return [contextOf(world, e), `${guest}/vcpu${queue!.slice(2)}`].join(' ');
        }),
    );
    for (const pair of served) assert.equal(pair.split(' ')[0], pair.split(' ')[1]);
    assert.ok(served.size >= 4);
    const reached = new Set(messages.map((e) => world.machine.catalog.places[e.place]!.name));
    for (const i of [0, 1, 2, 3]) assert.ok(reached.has(`b/vcpu${i}`), `vCPU ${i} is interrupted`);
    const senders = new Set(irqs.filter((e) => e.kind === E.GUEST_XMIT).map((e) => contextOf(world, e)));
    for (const i of [0, 1, 2, 3]) assert.ok(senders.has(`a/vcpu${i}`), `vCPU ${i} sends`);
    const { device } = deviceState(world.machine.guests[1]!.nics[0]!).nic;
    assert.ok(device instanceof VirtioPciDevice);
    assert.deepEqual(
      [1, 2, 3, 4, 5, 6, 7, 8].map((vector) => ((device.msixMessage(vector)!.address >>> 12) & 0xff).toString(2)),
      ['1', '1', '10', '10', '100', '100', '1000', '1000'],
    );
  });

  test('with two vectors all queues share one, on vCPU 0', () => {
    const world = world4(backend, { nic: { vectors: 2 }, pmds: 4 });
    const irqs = collect(world.machine, E.KVM_IRQFD, E.KVM_SIGNAL_MSI);
    const polls = collect(world.machine, E.GUEST_NAPI_POLL);
    const run = runOne(world, flows());
    settled(run);
    assert.ok(irqs.length > 0);
    const vcpus = ['a/vcpu0', 'b/vcpu0'].map((name) => placeId(world.machine, name));
    assert.ok(irqs.every((e) => vcpus.includes(e.place)));
    assert.ok(queuesOf(world, 'b', polls).filter((q) => q.startsWith('rx')).length === 4);
  });

  test('at every moment each frame is somewhere', () => {
    const world = world4(backend, { nic: { tapQueueLength: 20 }, pmds: 3 });
    stepThrough(world, () => {});
    const account = new FrameAccount(world);
    world.startTraffic(flows({ count: 700 }));
    world.startTraffic(udp('b/net0', 'a/net0', { count: 700, flows: 7 }));
    stepThrough(world, () => account.check());
    assert.ok(world.status().conservation.holds);
  });

  test('two worlds of one document do the same, event by event', () => {
    const digest = (): string => {
      const world = world4(backend, { pmds: 2 });
      traffic(world, flows(), udp('b/net0', 'a/net0', { count: 500, flows: 5 }));
      const { layout } = world.machine.catalog;
      const { buffer } = world.machine.arena;
      const hash = createHash('sha256');
      hash.update(new Uint8Array(buffer, layout.eventTime, layout.eventCapacity * 8));
      for (const at of [layout.eventMeta, layout.eventFrame, layout.eventA, layout.eventB])
        hash.update(new Uint8Array(buffer, at, layout.eventCapacity * 4));
      return `${world.now} ${world.machine.recorder.events} ${hash.digest('hex')}`;
    };
    assert.equal(digest(), digest());
  });

  test('streams over all pairs arrive whole', () => {
    const world = world4(backend, { pmds: 2 });
    const run = runOne(world, udp('a/net0', 'b/net0', { kind: 'tcp', bytes: 2_000_003, connections: 8 }));
    assert.equal(run.state, 'SUCCEEDED', run.reason);
    assert.deepEqual([run.tcp!.bytes, run.tcp!.mismatches, run.tcp!.open], [2_000_003, 0, 0]);
    assert.ok(world.status().conservation.holds);
  });

  test('what a dry run says of a world at rest is what then happens, on whichever queue', () => {
    const world = world4(backend, { pmds: 2 });
    runOne(world, flows({ count: 400 }));
    runOne(world, udp('b/net0', 'a/net0', { count: 400, flows: 16 }));
    // the other way round, they are flows that the guest has sent on this or that queue
    const frame = (port: number): FramesSpec => {
      const ports = [9, port].map((n) => n.toString(16).padStart(4, '0')).join('');
      const hex = `525400000002525400000001080045000020000000004011${'66ab'}0a0000010a000002${ports}000c0000${'00'.repeat(18)}`;
      const bytes = new Uint8Array(Buffer.from(hex, 'hex'));
      return {
        id: `raw${port}`,
        kind: 'frames',
        at: 'a/net0',
        bytes,
        lengths: Uint32Array.of(bytes.length),
        times: null,
      };
    };
    for (const port of [49152, 49155, 49158, 49161, 49165]) {
      const rehearsal = new Rehearsal(
        world.machine.topology,
        structuredClone(learnedState(world.machine)),
        frame(port),
      );
      let said = rehearsal.turn(1000);
      while (said === null) said = rehearsal.turn(1000);
      const first = world.machine.recorder.frames;
      world.startFrames(frame(port));
      while (world.turn(1000) === 0);
      const journey = (reader: RingReader, id: number): object => {
        const search = findJourney(reader, id);
        for (;;) {
          const { done, value } = search.next();
          if (!done) continue;
          assert.equal(value.kind, 'found');
          return { ...(value as { journey: Journey }).journey, frame: 0 };
        }
      };
      expect(journey(new RingReader(said.memory as SharedArrayBuffer, said.catalog), said.frames)).toEqual(
        journey(new RingReader(world.machine.arena.buffer, world.machine.catalog), first + 1),
      );
    }
  });
});

test('every queue is there by its name, with what it did', () => {
  const world = world4('vhost-net');
  settled(runOne(world, flows()));
  const nic = world.machine.guests[1]!.nics[0]!;
  const state = nicState(world.machine, nic);
  const names = [0, 1, 2, 3].flatMap((i) => [`rx${i}`, `tx${i}`]);
  assert.deepEqual(
    state.queues.map((q) => [q.name, q.enabled, q.size, q.msixVector]),
    [...names.map((name, i) => [name, true, 256, i + 1]), ['ctrl', true, 64, 65535]],
  );
  assert.equal(state.control!.queuePairs, 4);
  assert.deepEqual(
    state.contexts.filter((c) => c.includes('vcpu')),
    [0, 1, 2, 3].map((i) => `b/vcpu${i}`),
  );
  assert.equal(state.contexts.filter((c) => c.startsWith('vhost-')).length, 4);
  for (const name of ['rx0', 'rx1', 'rx2', 'rx3']) assert.ok(queueState(world.machine, nic, name).used!.idx > 0, name);
  assert.equal(queueState(world.machine, nic, 'tx3').index, 7);
});
