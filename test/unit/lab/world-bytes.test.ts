/**
 * Frames arrive as they were sent: the bytes at birth, as the recorder stored them, against the bytes in the receiver's
 * guest memory when its driver takes the frame, or in the packet that leaves on a wire.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import type { World } from '../../../src/lab/world.ts';
import { FrameBytes } from './frame-bytes.ts';
import {
  BACKENDS,
  full,
  makeWorld,
  pairDocument,
  ping,
  pvpDocument,
  runOut,
  twoHostsDocument,
  udp,
  watch,
} from './world-driver.ts';

// three runs at once are fewer than a queue holds: all of them arrive
const COUNT = full ? 300 : 150;
const SIZES = [64, 65, 66, 67, 127, 128, 255, 256, 270, 271, 272, 273, 511, 600, 1000, 1499, 1500, 1517, 1518];

function done(world: World): void {
  runOut(world);
  for (const run of world.allRuns()) assert.equal(run.state, 'SUCCEEDED', run.reason);
}

describe.each(BACKENDS)('%s', (backend) => {
  test('frames of all sizes and flows arrive byte for byte, once', () => {
    const world = makeWorld(pairDocument(backend, { guests: ['a', 'b', 'c'] }));
    const bytes = new FrameBytes(world);
    for (const [i, frameSize] of SIZES.entries()) {
      world.startTraffic(udp('a/net0', 'b/net0', { frameSize, count: COUNT, flows: 1 + i * 7 }));
      if (i % 3 === 0) world.startTraffic(udp('b/net0', 'c/net0', { frameSize, count: COUNT, flows: 3 }));
      done(world);
    }
    for (const frameSize of SIZES) world.startTraffic(ping('c/net0', 'a/net0', { frameSize, count: 3 }));
    done(world);
    const runs = world.allRuns();
    assert.ok(runs.every((r) => r.received === (r.kind === 'ping' ? 3 : COUNT)));
    assert.ok(bytes.compared >= COUNT * (SIZES.length + 7) + 6 * SIZES.length);
    // a frame arrives at one driver at most: floods go out under ids of their own
    assert.ok([...bytes.arrived.values()].every((n) => n === 1));
  });

  test('between two hosts, and from and to a wire', () => {
    const cable = makeWorld(twoHostsDocument(backend, { latency: '2us' }));
    const overCable = new FrameBytes(cable);
    for (const frameSize of [64, 999, 1518])
      cable.startTraffic(udp('h1/a/net0', 'h2/a/net0', { frameSize, count: COUNT, rate: 200_000 }));
    done(cable);
    assert.ok(overCable.compared >= 3 * COUNT);

    const world = makeWorld(pairDocument(backend, { host: { nics: [{ name: 'eth0' }] } }));
    const bytes = new FrameBytes(world);
    for (const frameSize of [64, 333, 1518]) {
      world.startTraffic(udp('eth0', 'b/net0', { frameSize, count: COUNT, rate: 100_000 }));
      world.startTraffic(udp('a/net0', 'eth0', { frameSize, count: COUNT, rate: 100_000 }));
    }
    done(world);
    assert.ok(bytes.compared >= 6 * COUNT);
    assert.ok(
      world.allRuns().every((r) => r.received === COUNT),
      JSON.stringify(world.allRuns().map((r) => r.dropped)),
    );
  });

  test('raw frames of every length keep every bit', () => {
    // without receive modes the device is promiscuous: QEMU's filter would drop addresses of nobody
    const nic = { features: { VIRTIO_NET_F_CTRL_RX: false } };
    const world = makeWorld(pairDocument(backend, { guests: ['a', 'b', 'c'], nic }));
    const bytes = new FrameBytes(world);
    const random = new Uint8Array(1514 * 200);
    let state = 88172645;
    for (let i = 0; i < random.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      random[i] = state;
    }
    const lengths = Uint32Array.from({ length: 100 }, (_, i) => [14, 15, 59, 60, 61, 1513, 1514, 17 + 11 * i][i % 8]!);
    world.startFrames({ id: 'f', kind: 'frames', at: 'a/net0', bytes: random, lengths, times: null });
    // and from a port of the bridge, as if c had sent them
    world.startFrames({ id: 'g', kind: 'frames', at: 'br0/c.net0', bytes: random, lengths, times: null });
    done(world);
    assert.ok(bytes.compared > 100);
  });
});

test('pktgen sends header and frame apart; the frame arrives as one', () => {
  for (const features of [{}, { VIRTIO_RING_F_INDIRECT_DESC: false }]) {
    const world = makeWorld(pairDocument('vhost-net', { nic: { features } }));
    const bytes = new FrameBytes(world);
    for (const frameSize of [64, 700, 1518])
      world.startTraffic(udp('a/net0', 'b/net0', { frameSize, count: COUNT, generator: 'pktgen' }));
    done(world);
    assert.ok(bytes.compared >= COUNT);
  }
});

test('a forwarding guest: io changes nothing, macswap the two addresses', () => {
  for (const app of ['io', 'macswap'] as const) {
    const world = makeWorld(pvpDocument(app));
    const originals = new Map<number, Uint8Array>();
    const bytes = new FrameBytes(world);
    watch(world.machine, ({ kind, frame }) => {
      if (kind === E.GUEST_RX) originals.set(frame, bytes.sent.get(frame)!);
    });
    for (const frameSize of [64, 400, 1518])
      world.startTraffic(udp('eth0', 'eth0', { frameSize, count: COUNT, rate: 500_000 }));
    done(world);
    let checked = 0;
    for (const [frame, original] of originals) {
      const last = Buffer.from(bytes.sent.get(frame)!);
      const was = Buffer.from(original);
      const wanted = app === 'io' ? was : Buffer.concat([was.subarray(6, 12), was.subarray(0, 6), was.subarray(12)]);
      assert.deepEqual(last, wanted);
      checked++;
    }
    assert.ok(checked >= 3 * COUNT);
    if (app === 'macswap') assert.ok(world.allRuns().every((r) => r.received === COUNT));
  }
});
