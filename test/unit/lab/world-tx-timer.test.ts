/** tx=timer of QEMU's virtio-net: qemu hw/net/virtio-net.c, virtio_net_handle_tx_timer(), virtio_net_tx_timer() (7.2). */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { NEVER } from '../../../src/engine/timeline.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { conservation, fingerprint } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import {
  collect,
  makeWorld,
  pairDocument,
  ping,
  placeId,
  runOne,
  runOut,
  type SeenEvent,
  udp,
} from './world-driver.ts';

const KINDS = [E.QEMU_TX_TIMER, E.TAP_XMIT, E.VIRTQ_KICK, E.VIRTQ_KICKS_ON, E.VIRTQ_KICKS_OFF, E.VIRTQ_INTERRUPT];
/** Guest a's world, its addresses learned, and what its NIC records from then on. */
function worldOf(nic: object): { world: World; of: (kind: number) => SeenEvent[] } {
  const world = makeWorld(pairDocument('virtio-net', { nic }));
  runOne(world, ping('a/net0', 'b/net0', { count: 2 }));
  const places = ['a/net0/tx0', 'a/net0/virtio-net', 'h1/br0/a.net0/tap', 'br0/a.net0/tap'].flatMap((name) =>
    world.machine.catalog.places.filter((p) => p.name === name).map((p) => p.id),
  );
  const seen = collect(world.machine, ...KINDS);
  return { world, of: (kind) => seen.filter((e) => e.kind === kind && places.includes(e.place)) };
}

test('a kick arms the timer and switches kicks off; the frame leaves when it has run out', () => {
  for (const ioeventfd of [true, false]) {
    const { world, of } = worldOf({ tx: 'timer', txTimer: 50_000, ioeventfd });
    expect(runOne(world, udp('a/net0', 'b/net0', { count: 1 })).received).toBe(1);
    expect(of(E.VIRTQ_KICK).length).toBe(1);
    const armed = of(E.QEMU_TX_TIMER);
    expect(armed.map((e) => e.a)).toEqual([50_000]);
    const { costs } = world.machine.catalog;
    const late = of(E.TAP_XMIT)[0]!.time - armed[0]!.time - 50_000;
    expect(late).toBeGreaterThanOrEqual(0);
    expect(late).toBeLessThan(costs['qemu_main_loop_iteration']! + costs['tap_write_syscall']! + 200);
    expect(of(E.VIRTQ_KICKS_OFF).length).toBe(1);
    expect(of(E.VIRTQ_KICKS_ON).length).toBe(1);
  }
});

test('default: 150 us; with tx=bh there is no timer and nothing waits', () => {
  const by = (nic: object): number => {
    const { world, of } = worldOf(nic);
    runOne(world, udp('a/net0', 'b/net0', { count: 1 }));
    expect(of(E.QEMU_TX_TIMER).map((e) => e.a)).toEqual('tx' in nic ? [150_000] : []);
    return of(E.TAP_XMIT)[0]!.time - of(E.VIRTQ_KICK)[0]!.time;
  };
  const waited = by({ tx: 'timer' }) - by({});
  expect(waited).toBeGreaterThanOrEqual(150_000);
  expect(waited).toBeLessThan(160_000);
});

test('frames that come while it runs go out together: one kick for many, fewer interrupts', () => {
  const counts = (nic: object): number[] => {
    const { world, of } = worldOf(nic);
    expect(runOne(world, udp('a/net0', 'b/net0', { count: 200, rate: 200_000 })).received).toBe(200);
    return [of(E.VIRTQ_KICK).length, of(E.VIRTQ_INTERRUPT).length];
  };
  const [kicks, interrupts] = counts({ tx: 'timer' });
  const [bhKicks, bhInterrupts] = counts({});
  expect(kicks!).toBeLessThan(bhKicks! / 3);
  expect(interrupts!).toBeLessThanOrEqual(bhInterrupts!);
});

test('a kick before it has run out flushes the queue at once', () => {
  const { world, of } = worldOf({ tx: 'timer', txTimer: 1_000_000 });
  const { machine } = world;
  const { scheduler } = machine;
  world.startTraffic(udp('a/net0', 'b/net0', { count: 1 }));
  while (of(E.QEMU_TX_TIMER).length === 0 && scheduler.earliest() !== NEVER) scheduler.run(NEVER, 1);
  const armed = of(E.QEMU_TX_TIMER)[0]!.time;
  const kick = machine.guests[0]!.nics[0]!.wiring.pairs[0]!.fds.txKick;
  scheduler.now[1] = scheduler.now[0]! + 10_000;
  kick.signal();
  runOut(world);
  expect(of(E.TAP_XMIT)[0]!.time - armed).toBeLessThan(30_000);
  // and it does not run out a second time
  expect(of(E.QEMU_TX_TIMER).length).toBe(1);
  expect(of(E.TAP_XMIT).length).toBe(1);
});

test('a flush of a whole burst, 256 frames, arms it again', () => {
  const nic = { tx: 'timer', txTimer: 2_000_000, queueSize: 1024 };
  const { world, of } = worldOf(nic);
  expect(runOne(world, udp('a/net0', 'b/net0', { count: 300, generator: 'pktgen' })).sent).toBe(300);
  const armed = of(E.QEMU_TX_TIMER);
  const sent = of(E.TAP_XMIT);
  expect(sent.length).toBe(300);
  expect(armed.length).toBeGreaterThanOrEqual(2);
  // the 257th waits for the timer
  expect(sent[256]!.time - sent[255]!.time).toBeGreaterThan(2_000_000 - 1);
  expect(sent[255]!.time - sent[0]!.time).toBeLessThan(2_000_000);
});

describe('whatever is sent, nothing is lost and every run is the same again', () => {
  test.each([
    { packed: false, eventIdx: true },
    { packed: false, eventIdx: false },
    { packed: true, eventIdx: true },
    { packed: true, eventIdx: false },
  ])('packed $packed, event idx $eventIdx', ({ packed, eventIdx }) => {
    fc.assert(
      fc.property(
        fc.record({
          txTimer: fc.constantFrom(0, 1, 5_000, 150_000),
          ioeventfd: fc.boolean(),
          rate: fc.constantFrom(0, 20_000, 300_000),
          count: fc.integer({ min: 1, max: 80 }),
        }),
        ({ txTimer, ioeventfd, rate, count }) => {
          const nic = { tx: 'timer', txTimer, ioeventfd, packed, features: { VIRTIO_RING_F_EVENT_IDX: eventIdx } };
          const once = (): string => {
            const { world } = worldOf(nic);
            expect(runOne(world, udp('a/net0', 'b/net0', { count, rate })).received).toBe(count);
            expect(conservation(world.machine).holds).toBe(true);
            return fingerprint(world.machine);
          };
          expect(once()).toBe(once());
        },
      ),
      { numRuns: 6 },
    );
  });
});

describe('documents', () => {
  const faults = (nic: object, guest: object = {}) => {
    const document = { hosts: [{ guests: [{ name: 'a', ...guest, nics: [{ name: 'net0', ...nic }] }] }] };
    const parsed = parseTopology(document, { name: 't' });
    return parsed.ok ? [] : parsed.faults;
  };
  test('tx=timer is for the virtio-net backend', () => {
    expect(faults({ tx: 'timer', backend: 'virtio-net' })).toEqual([]);
    expect(faults({ tx: 'timer' })).toEqual([
      expect.objectContaining({ pointer: '/hosts/0/guests/0/nics/0/tx', code: 'wrong-backend' }),
    ]);
    expect(faults({ txTimer: -1 })[0]).toMatchObject({ pointer: '/hosts/0/guests/0/nics/0/txTimer' });
    expect(faults({ tx: 'often' })[0]).toMatchObject({ code: 'unknown-value' });
  });
  test('virtio-net has no iothread, and the fault says so', () => {
    for (const backend of ['virtio-net', 'vhost-net', 'vhost-user'])
      expect(faults({ iothread: 'io1', backend }).find((f) => f.pointer.endsWith('/iothread'))).toMatchObject({
        pointer: '/hosts/0/guests/0/nics/0/iothread',
        code: 'unsupported',
        detail: expect.stringContaining('virtio-net has no iothread'),
      });
    // elsewhere it is a field like any other that there is not
    expect(faults({}, { iothread: 'io1' })[0]!.detail).not.toContain('virtio-net');
  });
  test('fields of a guest', () => {
    expect(faults({}, { haltPollNs: 200_000, postedInterrupts: true })).toEqual([]);
    expect(faults({}, { haltPollNs: -1 })[0]).toMatchObject({ pointer: '/hosts/0/guests/0/haltPollNs' });
    expect(faults({}, { haltPollNs: 2e9 })[0]).toMatchObject({ code: 'out-of-range' });
    expect(faults({}, { postedInterrupts: 1 })[0]).toMatchObject({ code: 'wrong-type' });
  });
});

test("guest a's places are those that the tests look at", () => {
  const { world } = worldOf({});
  expect(placeId(world.machine, 'br0/a.net0/tap')).toBeGreaterThan(0);
});
