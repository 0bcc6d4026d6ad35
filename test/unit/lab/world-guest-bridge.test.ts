/** A guest whose kernel forwards between its NICs: every frame leaves by the other NIC as it came, and offloads stay what they were. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { recorded } from './recorded.ts';
import { collect, FrameAccount, makeWorld, ping, runOne, runOut, stepThrough, udp } from './world-driver.ts';

const BACKENDS = ['virtio-net', 'vhost-net'] as const;
type Features = Readonly<Record<string, boolean>>;

/** a - br0 - b - br1 - c; b's kernel forwards. */
function chain(backend: string, options: { nic?: object; middle?: object; guest?: object } = {}): object {
  const nic = (name: string, bridge: string, more: object = {}): object => ({
    name,
    bridge,
    backend,
    ...options.nic,
    ...more,
  });
  return {
    hosts: [
      {
        name: 'h1',
        cores: 16,
        bridges: [{ name: 'br0' }, { name: 'br1' }],
        guests: [
          { name: 'a', nics: [nic('net0', 'br0', { addresses: ['10.0.0.1/24'] })] },
          {
            name: 'b',
            app: 'bridge',
            nics: [nic('net0', 'br0', options.middle), nic('net1', 'br1', options.middle)],
            ...options.guest,
          },
          { name: 'c', nics: [nic('net0', 'br1', { addresses: ['10.0.0.3/24'] })] },
        ],
      },
    ],
  };
}

describe.each(BACKENDS)('%s', (backend) => {
  test('echoes and datagrams of every size pass both ways, and nothing is lost', () => {
    const world = makeWorld(chain(backend));
    assert.equal(runOne(world, ping('a/net0', 'c/net0', { count: 3 })).received, 3);
    for (const [from, to] of [
      ['a/net0', 'c/net0'],
      ['c/net0', 'a/net0'],
    ] as const)
      for (const frameSize of [64, 65, 1518])
        assert.equal(runOne(world, udp(from, to, { count: 200, frameSize, rate: 50_000 })).received, 200);
    assert.ok(world.status().conservation.holds);
  });

  test('bytes are those that were sent', () => {
    const world = makeWorld(chain(backend));
    runOut(world);
    runOne(world, udp('a/net0', 'c/net0', { count: 20, frameSize: 333, rate: 20_000, flows: 3 }));
    const { events, bytesOf } = recorded(world, E.PACKET_BYTES, E.GUEST_FORWARD, E.GUEST_XMIT);
    const forwarded = new Set(events.filter((e) => e.kind === E.GUEST_FORWARD).map((e) => e.frame));
    const versions = events.filter((e) => e.kind === E.PACKET_BYTES && forwarded.has(e.frame) && e.b === 329);
    assert.equal(versions.length, 20, 'one version each: nobody has changed them');
    for (const v of versions) assert.equal(Buffer.from(bytesOf(v)).readUInt16BE(12), 0x0800);
    // each is sent twice: by a, and by b
    const sent = events.filter((e) => e.kind === E.GUEST_XMIT && e.a === 329);
    assert.equal(sent.length, 40);
  });

  test.each<[string, Features]>([
    ['large segments pass whole', {}],
    ['checksums that the other NIC does not write are written in the guest', { VIRTIO_NET_F_CSUM: false }],
    ['a guest that takes no large ones', { VIRTIO_NET_F_GUEST_TSO4: false, VIRTIO_NET_F_GUEST_TSO6: false }],
  ])('tcp: %s', (_, features) => {
    // who cannot be left checksums to cannot be left segments to
    const cut =
      features['VIRTIO_NET_F_CSUM'] === false ? { VIRTIO_NET_F_GUEST_TSO4: false, VIRTIO_NET_F_GUEST_TSO6: false } : {};
    const world = makeWorld(chain(backend, { middle: { features: { ...features, ...cut } } }));
    const passed = collect(world.machine, E.GUEST_FORWARD);
    const run = runOne(world, udp('a/net0', 'c/net0', { kind: 'tcp', bytes: 500_000 }));
    assert.equal(run.state, 'SUCCEEDED', run.reason);
    assert.deepEqual([run.tcp?.bytes, run.tcp?.mismatches], [500_000, 0]);
    const largest = Math.max(...passed.map((e) => e.a));
    if (Object.keys(features).length === 0) assert.ok(largest > 1514, `${largest}`);
    else assert.ok(largest <= 1514, `${largest}`);
    assert.ok(world.status().conservation.holds);
  });

  test('the account holds after every step, also where more comes than it can forward', () => {
    const world = makeWorld(chain(backend));
    runOut(world);
    runOne(world, ping('a/net0', 'c/net0', { count: 1 }));
    const account = new FrameAccount(world);
    const spec = udp('a/net0', 'c/net0', { count: 1500, generator: 'pktgen' });
    world.startTraffic(spec);
    stepThrough(world, () => account.check());
    const { sent, received, dropped } = world.run(spec.id);
    assert.equal(sent, received + Object.values(dropped).reduce((sum, n) => sum + n, 0));
  });
});

// a vhost-net of the kernel has no VIRTIO_NET_F_MTU, so its driver stays with 1500
test('a frame beyond the MTU of the other NIC is dropped; what is to be segmented is not', () => {
  const document = chain('virtio-net') as { hosts: { guests: { nics: object[] }[] }[] };
  Object.assign(document.hosts[0]!.guests[1]!.nics[1]!, { mtu: 1400 });
  const world = makeWorld(document);
  const passed = collect(world.machine, E.GUEST_FORWARD);
  const dropped = collect(world.machine, E.GUEST_DROP_MTU);
  const send = (frameSize: number) => runOne(world, udp('a/net0', 'c/net0', { count: 20, rate: 20_000, frameSize }));
  // an Ethernet header, a tag that need not be there, and the FCS
  const longest = 1400 + 14 + 4 + 4;
  assert.deepEqual([send(longest).received, dropped.length], [20, 0]);
  const { received, dropped: reasons } = send(longest + 1);
  assert.deepEqual([received, reasons], [0, { 'guest.mtu_exceeded': 20 }]);
  assert.deepEqual([dropped[0]?.a, dropped[0]?.b], [longest + 1 - 4, 1400]);
  world.startTraffic(udp('a/net0', 'c/net0', { kind: 'tcp', bytes: 200_000 }));
  runOut(world);
  assert.ok(
    passed.some(({ a }) => a > 1514),
    'segments that TSO cuts later',
  );
  assert.ok(world.status().conservation.holds);
});

test('several queue pairs keep their numbers, packed rings and IOMMUs are as good', () => {
  for (const options of [
    { nic: { queuePairs: 2 } },
    { nic: { packed: true } },
    { guest: { iommu: { mode: 'strict' } } },
  ]) {
    const world = makeWorld(chain('virtio-net', options));
    const run = runOne(world, udp('a/net0', 'c/net0', { count: 300, flows: 8, rate: 20_000 }));
    assert.equal(run.received, 300, JSON.stringify(options));
    assert.ok(world.status().conservation.holds);
  }
});

test('documents: an even number of NICs, with the kernel’s driver', () => {
  const faults = (guest: object): string[] => {
    const parsed = parseTopology({ hosts: [{ guests: [{ name: 'b', app: 'bridge', ...guest }] }] }, { name: 't' });
    return parsed.ok ? [] : parsed.faults.map((f) => f.pointer);
  };
  assert.deepEqual(faults({ nics: [{ name: 'net0' }, { name: 'net1' }] }), []);
  assert.deepEqual(faults({ nics: [{ name: 'net0' }] }), ['/hosts/0/guests/0/app']);
  assert.deepEqual(faults({}), ['/hosts/0/guests/0/app']);
  const polling = { backend: 'vhost-net', driver: 'virtio-pmd' };
  assert.ok(
    faults({
      nics: [
        { name: 'net0', ...polling },
        { name: 'net1', ...polling },
      ],
    }).includes('/hosts/0/guests/0/nics/0/driver'),
  );
});
