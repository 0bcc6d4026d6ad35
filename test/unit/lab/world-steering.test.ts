/** Where flows go in worlds with several queue pairs, and what these bring. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { rssConfig, vqPairsSet } from '../../../src/machine/guest/net-commands.ts';
import { contextOf, flows, type Options, queuesOf, settled, world4 } from './queue-worlds.ts';
import { type Backend, collect, placeId, runOne, type SeenEvent, udp } from './world-driver.ts';

describe('where flows go', () => {
  test.each(['virtio-net', 'vhost-net'] as const)(
    '%s: answers come in on the queue on which the flow is sent',
    (backend) => {
      const world = world4(backend);
      const used = collect(world.machine, E.VIRTQ_USED);
      const sent = collect(world.machine, E.VIRTQ_AVAIL);
      // connection i is sent on pair i, on either side
      runOne(world, udp('a/net0', 'b/net0', { kind: 'tcp', bytes: 400_000, connections: 4 }));
      const of = (events: readonly SeenEvent[], guest: string): number[] =>
        [0, 1, 2, 3].map(
          (i) =>
            events.filter((e) =>
              ['rx', 'tx'].some((way) => e.place === placeId(world.machine, `${guest}/net0/${way}${i}`)),
            ).length,
        );
      const acks = of(
        sent.filter((e) => world.machine.catalog.places[e.place]!.name.includes('/tx')),
        'b',
      );
      const received = of(used, 'a');
      // but the frames of the resolution and those that came before the flow was known
      for (const i of [1, 2, 3])
        assert.ok(Math.abs(acks[i]! - received[i]!) <= 2, `${acks} sent, ${received} received`);
    },
  );

  test.each(['virtio-net', 'vhost-net'] as const)(
    '%s: with RSS the table decides, and the frames that it has no hash for go where it says {net.ctrl.rss.6} {net.ctrl.rss.7}',
    (backend) => {
      const world = world4(backend, { nic: { features: { VIRTIO_NET_F_RSS: true } } });
      runOne(world, flows({ count: 10 }));
      const { nic, guest } = world.machine.guests[1]!.nics[0]!;
      const used = collect(world.machine, E.VIRTQ_USED);
      const configure = (table: readonly number[], unclassifiedQueue: number, queuePairs = 4): void => {
        const key = Uint8Array.from({ length: 40 }, (_, i) => (i * 37 + 11) & 255);
        guest.vcpu.command(nic, [
          rssConfig({ hashTypes: 0x3f, table: [...table], unclassifiedQueue, queuePairs, key }),
        ]);
        while (world.turn(1000) === 0);
        assert.equal(nic.control!.failed, 0);
        used.length = 0;
      };
      const arrived = (): string[] =>
        queuesOf(
          world,
          'b',
          used.filter((e) => world.machine.catalog.places[e.place]!.name.startsWith('b/net0/rx')),
        );
      configure([2, 2, 2, 2], 3);
      settled(runOne(world, flows()));
      assert.deepEqual(arrived(), ['rx2']);
      configure([1, 3], 0);
      settled(runOne(world, flows()));
      assert.deepEqual(arrived(), ['rx1', 'rx3']);
      // no IP: nothing to hash
      used.length = 0;
      const bytes = new Uint8Array(60);
      bytes.set(nic.mac);
      bytes.set([2, 0, 0, 0, 0, 9, 0x88, 0xb5], 6);
      const frames = {
        id: 'other',
        kind: 'frames',
        at: 'a/net0',
        bytes,
        lengths: Uint32Array.of(60),
        times: null,
      } as const;
      world.startFrames(frames);
      while (world.turn(1000) === 0);
      assert.deepEqual(arrived(), ['rx0']);
      // as many pairs by the other command: the tap chooses again
      guest.vcpu.command(nic, [vqPairsSet(4)]);
      while (world.turn(1000) === 0);
      used.length = 0;
      settled(runOne(world, flows()));
      assert.deepEqual(arrived(), ['rx0', 'rx1', 'rx2', 'rx3']);
    },
  );

  test('vhost-user: a PMD sends to a guest by one queue, whatever the guest has', () => {
    for (const [pmds, queues] of [
      [1, ['rx1']],
      [2, ['rx1', 'rx2']],
      [3, ['rx1', 'rx2', 'rx3']],
      [4, ['rx0', 'rx1', 'rx2', 'rx3']],
    ] as const) {
      const world = world4('vhost-user', { nic: { driver: 'virtio-pmd' }, pmds });
      const used = collect(world.machine, E.VIRTQ_USED);
      settled(runOne(world, flows()));
      assert.deepEqual(queuesOf(world, 'b', used), queues);
    }
  });
  test('vhost-user: receive queues are dealt to the PMDs up and down the list', () => {
    const world = world4('vhost-user', { nic: { driver: 'virtio-pmd' }, pmds: 3 });
    const popped = collect(world.machine, E.VIRTQ_POP);
    settled(runOne(world, flows()));
    const polledBy = [0, 1, 2, 3].map((i) => {
      const place = placeId(world.machine, `a/net0/tx${i}`);
      return [...new Set(popped.filter((e) => e.place === place).map((e) => contextOf(world, e)))].join();
    });
    assert.deepEqual(polledBy, ['pmd-c31', 'pmd-c30', 'pmd-c29', 'pmd-c29']);
  });
});

describe('speed in virtual time', () => {
  const rate = (backend: Backend, queuePairs: number, options: Options = {}): number => {
    const world = world4(backend, { ...options, nic: { ...options.nic, queuePairs } });
    const run = runOne(world, flows({ count: 40_000 }));
    settled(run);
    return run.virtual.framesPerSecond;
  };
  test('4 queue pairs on 4 emulated cores: nearly four times as many frames through vhost-net', () => {
    const [one, two, four] = [rate('vhost-net', 1), rate('vhost-net', 2), rate('vhost-net', 4)];
    assert.ok(two / one > 1.8 && two / one < 2.1, `2 pairs: ${two / one}`);
    assert.ok(four / one > 3.5 && four / one < 4.1, `4 pairs: ${four / one}`);
  });
  test('through vhost-user as many times as there are PMDs; none with one', () => {
    const nic = { driver: 'virtio-pmd' };
    const one = rate('vhost-user', 1, { nic });
    assert.ok(Math.abs(rate('vhost-user', 4, { nic }) / one - 1) < 0.1);
    assert.ok(rate('vhost-user', 4, { nic, pmds: 4 }) / one > 3.5);
  });
  test('none through QEMU: one main loop serves all pairs', () => {
    assert.ok(Math.abs(rate('virtio-net', 4) / rate('virtio-net', 1) - 1) < 0.1);
  });
});
