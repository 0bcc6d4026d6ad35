/** The state of a device as bytes: what was saved is loaded, and nothing that is in a stream is trusted. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { andFeatures, featuresOf, VIRTIO_F_RING_PACKED } from '../../../../../src/machine/virtio/features.ts';
import {
  type LoadInto,
  loadDevice,
  type SavedDevice,
  saveDevice,
} from '../../../../../src/machine/virtio/net/device-state.ts';

const RAM = 1 << 24;
const into: LoadInto = {
  offered: { lo: 0xffff_ffff, hi: 0xffff_ffff },
  queueSizes: [256, 256, 64],
  pairs: 1,
  inRam: (gpa, bytes) => gpa + bytes <= RAM,
};
const queue = {
  size: 256,
  enabled: true,
  msixVector: 1,
  descGpa: 0x10_0000,
  driverGpa: 0x10_1000,
  deviceGpa: 0x10_2000,
  base: 700,
};
const state: SavedDevice = {
  status: 15,
  configGeneration: 3,
  features: { lo: 0x1234_5678, hi: 1 },
  offloads: { lo: 0x80, hi: 0 },
  activePairs: 1,
  config: [0x52, 0x54, 0, 0, 0, 1, 1, 0],
  queues: [queue, { ...queue, msixVector: 2, base: 0xffff }, { ...queue, size: 64, base: null }],
  control: [1, 2, 3],
};
const fault = (saved: SavedDevice, device = into): string => {
  const loaded = loadDevice(saveDevice(saved), device);
  assert.equal(typeof loaded, 'string');
  return loaded as string;
};
const withQueue = (change: object): SavedDevice => ({ ...state, queues: [{ ...queue, ...change }] });

const PLAIN = { noNullPrototype: true } as const;

test('what was saved is loaded', () => {
  assert.deepEqual(loadDevice(saveDevice(state), into), state);
});
test('any state of such a device', () => {
  const word = fc.integer({ min: 0, max: 0xffff_ffff });
  const gpa = fc.integer({ min: 0, max: RAM - 4 });
  const anyQueue = fc.record(
    {
      size: fc.constantFrom(1, 2, 64),
      enabled: fc.boolean(),
      msixVector: fc.integer({ min: 0, max: 0xffff }),
      descGpa: gpa,
      driverGpa: gpa,
      deviceGpa: gpa,
      base: fc.option(fc.integer({ min: 0, max: 0xffff })),
    },
    PLAIN,
  );
  const notPacked = { lo: 0xffff_ffff, hi: ~featuresOf(VIRTIO_F_RING_PACKED).hi >>> 0 };
  const features = fc.record({ lo: word, hi: word }, PLAIN).map((f) => andFeatures(f, notPacked));
  const any: fc.Arbitrary<SavedDevice> = fc.record(
    {
      status: fc.integer({ min: 0, max: 255 }),
      configGeneration: fc.integer({ min: 0, max: 255 }),
      features,
      offloads: features,
      activePairs: fc.constant(1),
      config: fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 60 }),
      queues: fc.array(anyQueue, { maxLength: 3 }),
      control: fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 300 }),
    },
    PLAIN,
  );
  fc.assert(fc.property(any, (saved) => assert.deepEqual(loadDevice(saveDevice(saved), into), saved)));
});

describe('refused', () => {
  test('features that the device does not offer', () => {
    assert.match(fault(state, { ...into, offered: { lo: 0x1234_0000, hi: 1 } }), /does not offer/);
  });
  test('queues that it does not have, or not so large', () => {
    assert.match(fault(state, { ...into, queueSizes: [256] }), /3 queues where the device has 1/);
    assert.match(fault(state, { ...into, queueSizes: [128, 256, 64] }), /queue 0: 256 entries of at most 128/);
    assert.match(fault(withQueue({ size: 48 })), /queue 0: 48 entries/);
  });
  test('rings that are not in memory, unless the queue is off', () => {
    assert.match(fault(withQueue({ descGpa: RAM })), /not in memory/);
    assert.equal(typeof loadDevice(saveDevice(withQueue({ enabled: false, descGpa: RAM })), into), 'object');
  });
  test('positions that a ring cannot have', () => {
    assert.match(fault(withQueue({ base: 0x1_0000 })), /stands at 65536/);
    const packed = { ...withQueue({ base: 0x8100_8100 }), features: featuresOf(VIRTIO_F_RING_PACKED) };
    assert.match(fault(packed), /stands at slot 256 of 256/);
    const fits = { ...withQueue({ base: 0x00ff_80ff }), features: featuresOf(VIRTIO_F_RING_PACKED) };
    assert.equal(typeof loadDevice(saveDevice(fits), into), 'object');
  });
  test('queue pairs that there are not', () => {
    assert.match(fault({ ...state, activePairs: 2 }), /2 queue pairs in use, of 1/);
    assert.match(fault({ ...state, activePairs: 0 }), /0 queue pairs/);
  });
  test('another version, something else, less or more', () => {
    const bytes = saveDevice(state);
    const other = Uint8Array.from(bytes);
    other[4] = 2;
    assert.match(String(loadDevice(other, into)), /version 2/);
    other[0] = 0;
    assert.match(String(loadDevice(other, into)), /no state of a virtio-net device/);
    assert.match(String(loadDevice(bytes.subarray(0, 5), into)), /too few/);
    assert.match(String(loadDevice(bytes.subarray(0, bytes.length - 1), into)), /where the state says/);
  });
  test('whatever the bytes are, there is an answer', () => {
    const good = saveDevice(state);
    const spoiled = fc
      .tuple(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 8 }), fc.nat(good.length))
      .map(([changes, length]) => {
        const bytes = Uint8Array.from(good);
        for (const [at, byte] of changes) bytes[at] = byte;
        return bytes.subarray(0, length === 0 ? good.length : length);
      });
    fc.assert(
      fc.property(fc.oneof(spoiled, fc.uint8Array({ maxLength: 400 })), (bytes) => {
        const loaded = loadDevice(bytes, into);
        if (typeof loaded === 'string') return;
        for (const [i, q] of loaded.queues.entries()) {
          assert.ok(q.size <= into.queueSizes[i]!);
          assert.ok(!q.enabled || q.descGpa < RAM);
        }
      }),
    );
  });
});
