/** A guest whose kernel runs an XDP program that sends every frame back: what comes back, by which queue, and who is told. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RingReader } from '../../../src/engine/event-ring.ts';
import * as E from '../../../src/engine/events.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { learnedState, Rehearsal } from '../../../src/lab/dry-run.ts';
import { findNic } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import {
  VIRTIO_NET_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_CTRL_MQ,
  VIRTIO_NET_CTRL_RX,
} from '../../../src/machine/wire/virtio-net-ctrl.ts';
import { recorded } from './recorded.ts';
import {
  BACKENDS,
  type Backend,
  collect,
  FrameAccount,
  full,
  makeWorld,
  placeId,
  runOne,
  runOut,
  stepThrough,
  udp,
  type XdpOptions,
  xdpDocument,
} from './world-driver.ts';

/** Two queue pairs and one CPU: one pair is the program's. */
const OWN: XdpOptions = { nic: { queuePairs: 2 }, guest: { vcpus: 1 } };

function built(backend: Backend, options: XdpOptions = {}): World {
  const world = makeWorld(xdpDocument(backend, options));
  runOut(world);
  return world;
}
/** How often each of the kinds was recorded at a place. */
function counts(events: readonly { kind: number; place: number }[], place: number): Record<string, number> {
  const out: Record<string, number> = {};
  for (const e of events) {
    if (e.place !== place) continue;
    const { name } = E.KIND_BY_ID[e.kind]!;
    out[name] = (out[name] ?? 0) + 1;
  }
  return out;
}

describe.each(BACKENDS)('%s', (backend) => {
  test('frames of every size come back with their addresses swapped and nothing else changed', () => {
    const world = built(backend);
    for (const frameSize of [64, 65, 700, 1518]) {
      const run = runOne(world, udp('eth0', 'eth0', { count: 50, frameSize, rate: 20_000, flows: 3 }));
      assert.deepEqual([run.sent, run.received, run.dropped], [50, 50, {}]);
    }
    const { events, bytesOf } = recorded(world, E.PACKET_BYTES);
    const versions = new Map<number, Buffer[]>();
    for (const e of events) versions.set(e.frame, [...(versions.get(e.frame) ?? []), Buffer.from(bytesOf(e))]);
    let swapped = 0;
    for (const [first, second, ...more] of versions.values()) {
      if (second === undefined) continue;
      assert.equal(more.length, 0);
      const wanted = Buffer.concat([first!.subarray(6, 12), first!.subarray(0, 6), first!.subarray(12)]);
      assert.deepEqual(second, wanted);
      swapped++;
    }
    assert.equal(swapped, 200);
    assert.ok(world.status().conservation.holds);
  });

  test('no frame reaches the stack, and each poll considers one kick, after the last of its frames', () => {
    const world = built(backend);
    const seen = collect(world.machine, ...E.KIND_BY_ID.keys());
    runOne(world, udp('eth0', 'eth0', { count: 900 }));
    const a = placeId(world.machine, 'a/net0');
    const tx = counts(seen, placeId(world.machine, 'a/net0/tx0'));
    const { 'guest.forward': forwarded, ...driver } = counts(seen, a);
    assert.ok(forwarded! > 500);
    assert.deepEqual(Object.keys(driver).sort(), ['guest.rx', 'guest.xmit', 'packet.bytes']);
    const polls: number[] = [];
    for (const e of seen) {
      if (e.kind === E.GUEST_NAPI_POLL && e.place === placeId(world.machine, 'a/net0/rx0')) polls.push(0);
      if (e.kind === E.GUEST_FORWARD) polls[polls.length - 1]!++;
    }
    const busy = polls.filter((n) => n > 0).length;
    assert.equal((tx['virtq.kick'] ?? 0) + (tx['virtq.kick_suppressed'] ?? 0), busy);
    assert.ok(Math.max(...polls) > 1 && Math.max(...polls) <= 64, `${Math.max(...polls)}`);
  });

  test('a queue of its own: nobody asks for its interrupts, and what was sent is freed by the next poll', () => {
    const world = built(backend, OWN);
    const { nic } = findNic(world.machine, 'a', 'net0');
    assert.equal(nic.active, 2);
    const seen = collect(world.machine, ...E.KIND_BY_ID.keys());
    const run = runOne(world, udp('eth0', 'eth0', { count: 500, rate: 100_000 }));
    assert.equal(run.received, 500);
    const own = counts(seen, placeId(world.machine, 'a/net0/tx1'));
    assert.equal(own['virtq.avail'], 500);
    assert.equal(own['virtq.interrupts_on'], undefined);
    // used_event stays 0, which the first used entry passes, and then one in 65,536 (virtqueue_disable_cb_split())
    assert.equal(own['virtq.interrupt'], 1);
    assert.equal(own['guest.napi_poll'], 1);
    assert.ok(own['virtq.reclaim']! > 400);
    assert.equal(counts(seen, placeId(world.machine, 'a/net0/tx0'))['virtq.avail'], undefined);
  });
  test('and none at all where interrupts are switched by flags', () => {
    // vhost-net of the kernel has no packed rings
    const packed = backend === 'vhost-net' ? [] : [{ packed: true }];
    for (const nic of [{ features: { VIRTIO_RING_F_EVENT_IDX: false } }, ...packed]) {
      const world = built(backend, { ...OWN, nic: { ...OWN.nic, ...nic } });
      const seen = collect(world.machine, ...E.KIND_BY_ID.keys());
      assert.equal(runOne(world, udp('eth0', 'eth0', { count: 500, rate: 100_000 })).received, 500);
      const own = counts(seen, placeId(world.machine, 'a/net0/tx1'));
      assert.deepEqual([own['virtq.avail'], own['virtq.interrupt']], [500, undefined], JSON.stringify(nic));
    }
  });
  test('the queue of the stack, where there is no other: its interrupts stay on, three quarters of what is outstanding late', () => {
    const world = built(backend);
    const seen = collect(world.machine, ...E.KIND_BY_ID.keys());
    assert.equal(runOne(world, udp('eth0', 'eth0', { count: 500, rate: 100_000 })).received, 500);
    const shared = counts(seen, placeId(world.machine, 'a/net0/tx0'));
    assert.equal(shared['virtq.avail'], 500);
    assert.ok(shared['virtq.interrupt']! > 1);
    assert.ok(shared['virtq.interrupts_on']! > 1);
  });

  test('the account holds after every step, also where more comes than it can send back', () => {
    const world = built(backend, { nic: { queueSize: 64 }, document: { costs: { guest_xdp_tx: 3000 } } });
    const account = new FrameAccount(world);
    const spec = udp('eth0', 'eth0', { count: 1500 });
    world.startTraffic(spec);
    stepThrough(world, () => account.check());
    const { sent, received, dropped } = world.run(spec.id);
    assert.ok(received > 0 && received < sent);
    assert.equal(sent, received + Object.values(dropped).reduce((sum, n) => sum + n, 0));
  });
});

test('the program comes to one NIC after the other, and switches off interrupts of that one’s queue', () => {
  const nics = ['net0', 'net1'].map((name) => ({ name, backend: 'vhost-net', queuePairs: 2 }));
  const world = makeWorld(xdpDocument('vhost-net', { guest: { vcpus: 1, nics } }));
  runOut(world);
  const reader = new RingReader(world.machine.arena.buffer, world.machine.catalog);
  for (const name of ['net0', 'net1']) {
    assert.equal(findNic(world.machine, 'a', name).nic.active, 2);
    const place = placeId(world.machine, `a/${name}/tx1`);
    assert.equal(reader.count(place, E.VIRTQ_INTERRUPTS_OFF), 1, name);
  }
});

test('each vCPU sends by its own queue, also frames that came in by the other half of the pairs', () => {
  const world = built('vhost-net', { nic: { queuePairs: 4 }, guest: { vcpus: 2 } });
  assert.equal(findNic(world.machine, 'a', 'net0').nic.active, 4);
  const seen = collect(world.machine, E.VIRTQ_AVAIL, E.GUEST_RX, E.GUEST_NAPI_POLL);
  const run = runOne(world, udp('eth0', 'eth0', { count: 600, flows: 16, rate: 200_000 }));
  assert.equal(run.received, 600);
  const contextOf = (name: string): number => world.machine.catalog.contexts.find((c) => c.name === name)!.id;
  const sent = new Set(seen.filter((e) => e.kind === E.VIRTQ_AVAIL).map((e) => `${e.place} by ${e.context}`));
  const place = (name: string): number => placeId(world.machine, `a/net0/${name}`);
  assert.deepEqual(
    [...sent].sort(),
    [`${place('tx2')} by ${contextOf('a/vcpu0')}`, `${place('tx3')} by ${contextOf('a/vcpu1')}`].sort(),
  );
});

test('with as many vCPUs as pairs the queues of the stack are shared', () => {
  const world = built('vhost-net', { nic: { queuePairs: 2 } });
  assert.equal(findNic(world.machine, 'a', 'net0').nic.active, 2);
  const sent = collect(world.machine, E.VIRTQ_AVAIL);
  assert.equal(runOne(world, udp('eth0', 'eth0', { count: 300, flows: 16, rate: 200_000 })).received, 300);
  const places = ['tx0', 'tx1'].map((queue) => placeId(world.machine, `a/net0/${queue}`));
  assert.deepEqual(
    [...new Set(sent.map((e) => e.place))].sort((x, y) => x - y),
    places.sort((x, y) => x - y),
  );
});

test('the program comes with a command for pairs and one that switches the receive offloads off', () => {
  const commands = (options: XdpOptions): number[] => {
    const { events } = recorded(built('vhost-net', options), E.VIRTIO_NET_CTRL_SENT);
    return events.map((e) => e.a >> 8).filter((about) => about !== VIRTIO_NET_CTRL_RX);
  };
  const last = commands(OWN).slice(-2);
  assert.deepEqual(last, [VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_GUEST_OFFLOADS]);
  assert.ok(!commands({}).includes(VIRTIO_NET_CTRL_MQ), 'one pair');
  const off = { nic: { features: { VIRTIO_NET_F_GUEST_CSUM: false } } };
  assert.ok(!commands(off).includes(VIRTIO_NET_CTRL_GUEST_OFFLOADS), 'nothing to switch off');
});

test('a guest that leaves checksums and segments to its device: the program sends complete datagrams back', () => {
  for (const backend of ['virtio-net', 'vhost-net'] as const) {
    const document = xdpDocument(backend) as { hosts: { guests: object[] }[] };
    const sender = {
      name: 'b',
      nics: [{ name: 'net0', backend, addresses: ['10.0.0.2/24'], features: { VIRTIO_NET_F_HOST_USO: true } }],
    };
    document.hosts[0]!.guests.push(sender);
    const world = makeWorld(document);
    runOut(world);
    const forwarded = collect(world.machine, E.GUEST_FORWARD);
    const bad = collect(world.machine, E.GUEST_DROP_MALFORMED, E.GUEST_DROP_BAD_CHECKSUM);
    runOne(world, udp('b/net0', 'a/net0', { count: 64, frameSize: 1400, segments: 16 }));
    assert.deepEqual([forwarded.length, bad.length], [64, 0]);
    assert.ok(forwarded.every((e) => e.a === 1396));
    const { events, bytesOf } = recorded(world, E.PACKET_BYTES);
    const back = events.filter((e) => e.place === placeId(world.machine, 'a/net0'));
    assert.equal(back.length, 64);
    for (const e of back) assert.equal(udpSum(Buffer.from(bytesOf(e))), 0xffff);
  }
});
/** One's complement sum over the pseudo-header and the datagram: 0xffff where the checksum is right. */
function udpSum(frame: Buffer): number {
  const ip = frame.subarray(14);
  const length = ip.readUInt16BE(24);
  let sum = 17 + length;
  for (let at = 12; at < 20; at += 2) sum += ip.readUInt16BE(at);
  const datagram = Buffer.concat([ip.subarray(20, 20 + length), Buffer.alloc(length & 1)]);
  for (let at = 0; at < datagram.length; at += 2) sum += datagram.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

test('a frame costs one entry of the table, beside the poll that it shares with others', () => {
  const world = built('vhost-net');
  const seen = collect(world.machine, E.GUEST_NAPI_POLL, E.GUEST_RX);
  runOne(world, udp('eth0', 'eth0', { count: 400 }));
  const rx = placeId(world.machine, 'a/net0/rx0');
  let after: number | null = null;
  let shared = 0;
  for (const e of seen) {
    if (e.kind === E.GUEST_NAPI_POLL && e.place === rx) after = e.time + 600;
    else if (e.kind === E.GUEST_RX) {
      assert.equal(e.time, after! + 213);
      after = e.time;
      shared++;
    }
  }
  assert.equal(shared, 400);
});

test('a ring that is full: the frame is dropped, whoever owns the queue', () => {
  for (const own of [OWN, {}]) {
    const world = built('virtio-net', {
      ...own,
      nic: { queueSize: 64, ...own.nic },
      // QEMU brings frames faster than it takes them back
      document: { costs: { tap_write_syscall: 40_000, tap_read_syscall: 1, qemu_main_loop_iteration: 1 } },
    });
    const stopped = collect(world.machine, E.GUEST_TXQ_STOP);
    const run = runOne(world, udp('eth0', 'eth0', { count: 3000, rate: 400_000 }));
    assert.ok(run.dropped['guest.tx_full']! > 0, JSON.stringify(run.dropped));
    assert.equal(stopped.length > 0, own !== OWN, 'the stack’s own queue waits, one of the program’s never does');
    assert.ok(world.status().conservation.holds);
  }
});

test('a dry run takes the same way', () => {
  const world = built('vhost-net', OWN);
  runOne(world, udp('eth0', 'eth0', { count: 5 }));
  const state = structuredClone(learnedState(world.machine));
  const spec = udp('eth0', 'eth0', { count: 1 });
  const rehearsal = new Rehearsal(world.machine.topology, state, spec);
  for (let result = null; result === null; ) {
    result = rehearsal.turn(1000);
    if (result !== null) assert.equal(result.run.received, 1);
  }
});

test('whatever rings, queues and VMM: every frame is accounted for, and a world does the same again', () => {
  const worlds = fc.record({
    backend: fc.constantFrom(...BACKENDS),
    vmm: fc.constantFrom('qemu', 'qemu', 'stratovirt'),
    queueSize: fc.constantFrom(256, 512, 1024),
    queuePairs: fc.constantFrom(1, 2, 3, 4),
    vcpus: fc.constantFrom(1, 2, 3),
    mrg: fc.boolean(),
    eventIdx: fc.boolean(),
    iommu: fc.constantFrom(null, { mode: 'strict' }, { mode: 'lazy' }),
    cost: fc.constantFrom(1, 213, 2000),
    flows: fc.constantFrom(1, 7),
    frameSize: fc.constantFrom(64, 1000, 1518),
    seed: fc.nat(0xffff),
  });
  fc.assert(
    fc.property(worlds, (w) => {
      const qemu = w.vmm === 'qemu';
      const features = {
        ...(w.eventIdx ? {} : { VIRTIO_RING_F_EVENT_IDX: false }),
        ...(w.mrg ? {} : { VIRTIO_NET_F_MRG_RXBUF: false, VIRTIO_NET_F_GUEST_CSUM: false }),
      };
      const document = xdpDocument(w.backend, {
        nic: {
          queueSize: w.queueSize,
          queuePairs: w.queuePairs,
          features,
          ...(qemu ? {} : { transport: 'pci-modern' }),
        },
        guest: { vmm: w.vmm, vcpus: w.vcpus, ...(qemu && w.iommu !== null ? { iommu: w.iommu } : {}) },
        document: { seed: w.seed, costs: { guest_xdp_tx: w.cost } },
      });
      const results = [1, 2].map(() => {
        const world = makeWorld(document);
        runOut(world);
        const run = runOne(
          world,
          udp('eth0', 'eth0', { count: 400, flows: w.flows, frameSize: w.frameSize, rate: 500_000 }),
        );
        const { fingerprint, conservation } = world.status();
        assert.ok(conservation.holds);
        assert.ok(run.received > 0, JSON.stringify(run.dropped));
        assert.equal(run.sent, run.received + Object.values(run.dropped).reduce((sum, n) => sum + n, 0));
        return [fingerprint, run.received];
      });
      assert.deepEqual(results[0], results[1]);
    }),
    { numRuns: full ? 300 : 25 },
  );
});

describe('documents', () => {
  const parse = (guest: object, nic: object = {}) =>
    parseTopology(
      { hosts: [{ guests: [{ name: 'b', app: 'xdp-tx', nics: [{ name: 'net0', ...nic }], ...guest }] }] },
      { name: 't' },
    );
  const faults = (guest: object, nic: object = {}): string[] => {
    const parsed = parse(guest, nic);
    return parsed.ok ? [] : parsed.faults.map((f) => `${f.pointer.replace('/hosts/0/guests/0', '')} ${f.code}`);
  };
  const features = (off: Record<string, boolean>): object => ({ features: off });
  const NO_WAY = { VIRTIO_NET_F_CTRL_GUEST_OFFLOADS: false };
  const BARE = '/nics/0/features/VIRTIO_NET_F';

  test.each<[string, object, object, string[]]>([
    ['alone', {}, {}, []],
    ['QEMU’s own data path', {}, { backend: 'virtio-net' }, []],
    ['several NICs', { nics: [{ name: 'net0' }, { name: 'net1' }] }, {}, []],
    ['no NIC', { nics: [] }, {}, ['/app wrong-driver']],
    ['a polling driver', {}, { driver: 'virtio-pmd' }, ['/nics/0/driver wrong-driver']],
    ['no driver', {}, { driver: 'none' }, ['/nics/0/driver wrong-driver']],
    ['offloads that nobody asked for go', {}, features(NO_WAY), []],
    [
      'a checksum offload that cannot be switched off',
      {},
      features({ ...NO_WAY, VIRTIO_NET_F_GUEST_CSUM: true }),
      [`${BARE}_GUEST_CSUM wrong-feature`],
    ],
    [
      'the same for segments',
      {},
      features({ VIRTIO_NET_F_CTRL_VQ: false, VIRTIO_NET_F_GUEST_TSO4: true, VIRTIO_NET_F_GUEST_CSUM: true }),
      [`${BARE}_GUEST_CSUM wrong-feature`],
    ],
    [
      'no large segments and no mergeable buffers',
      {},
      features({ VIRTIO_NET_F_MRG_RXBUF: false, VIRTIO_NET_F_GUEST_CSUM: false }),
      [],
    ],
    ['pages of large segments', {}, features({ VIRTIO_NET_F_MRG_RXBUF: false }), [`${BARE}_MRG_RXBUF wrong-feature`]],
    ['an MTU of one buffer', {}, { mtu: 1500, backend: 'virtio-net' }, []],
    ['a longer MTU', {}, { mtu: 1501, backend: 'virtio-net' }, ['/nics/0/mtu out-of-range']],
    ['a legacy device', {}, { transport: 'pci-legacy' }, []],
    [
      'a legacy device that wants the header in a descriptor of its own',
      {},
      { transport: 'pci-legacy', ...features({ VIRTIO_F_ANY_LAYOUT: false }) },
      ['/nics/0/features/VIRTIO_F_ANY_LAYOUT wrong-feature'],
    ],
    ['StratoVirt', { vmm: 'stratovirt' }, { backend: 'vhost-net' }, []],
  ])('%s', (_, guest, nic, wanted) => {
    expect(faults(guest, nic)).toEqual(wanted);
  });

  test('the default leaves what can be switched off, and takes away what cannot', () => {
    const bits = (guest: object, nic: object = {}) => {
      const parsed = parse(guest, nic);
      assert.ok(parsed.ok);
      const on = parsed.topology.hosts[0]!.guests[0]!.nics[0]!.features;
      return [on['VIRTIO_NET_F_GUEST_CSUM'], on['VIRTIO_NET_F_GUEST_TSO4']];
    };
    expect(bits({})).toEqual([true, true]);
    expect(bits({}, features(NO_WAY))).toEqual([false, false]);
    expect(bits({ vmm: 'stratovirt' })).toEqual([false, false]);
    expect(bits({ vmm: 'stratovirt', app: 'stack' })).toEqual([true, true]);
  });
  test('messages name the bit and what helps', () => {
    const parsed = parse({}, features({ ...NO_WAY, VIRTIO_NET_F_GUEST_CSUM: true }));
    assert.ok(!parsed.ok);
    expect(parsed.faults[0]).toMatchObject({
      detail: expect.stringContaining('VIRTIO_NET_F_GUEST_CSUM off'),
      expected: 'false, or "VIRTIO_NET_F_CTRL_GUEST_OFFLOADS": true',
    });
  });
});
