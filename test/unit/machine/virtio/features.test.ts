import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import {
  andFeatures,
  FEATURE_BITS,
  type Features,
  featureBit,
  featureNames,
  featuresFromHex,
  featuresHex,
  featuresOf,
  featureWord,
  hasFeature,
  isSubset,
  minusFeatures,
  missingDependency,
  orFeatures,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_HASH_TUNNEL,
  VIRTIO_NET_F_RSS,
} from '../../../../src/machine/virtio/features.ts';
import { NetConfig } from '../../../../src/machine/virtio/net/net-config.ts';
import { nextStatus, statusNames } from '../../../../src/machine/virtio/status.ts';
import { BASIC_NET_FEATURES } from './basic-features.ts';

const words = fc.record({ lo: fc.nat(0xffff_ffff), hi: fc.nat(0xffff_ffff) }, { noNullPrototype: true });
const big = (f: Features): bigint => (BigInt(f.hi) << 32n) | BigInt(f.lo);

describe('features', () => {
  it('as words agree with 64-bit arithmetic', () => {
    fc.assert(
      fc.property(words, words, fc.nat(63), (a, b, bit) => {
        assert.equal(big(andFeatures(a, b)), big(a) & big(b));
        assert.equal(big(orFeatures(a, b)), big(a) | big(b));
        assert.equal(big(minusFeatures(a, b)), big(a) & ~big(b));
        assert.equal(isSubset(a, b), (big(a) & ~big(b)) === 0n);
        assert.equal(hasFeature(a, bit), ((big(a) >> BigInt(bit)) & 1n) === 1n);
        assert.equal(big(featuresOf(bit)), 1n << BigInt(bit));
        assert.deepEqual(featuresFromHex(featuresHex(a)), a);
        assert.equal(featureNames(a).length, [...big(a).toString(2)].filter((c) => c === '1').length);
      }),
      { verbose: 1 },
    );
    assert.equal(featureWord({ lo: 1, hi: 2 }, 2), 0);
  });
  it('names are those of the specification, one per bit', () => {
    for (const [name, bit] of Object.entries(FEATURE_BITS)) {
      assert.equal(featureBit(name), bit);
      assert.deepEqual(featureNames(featuresOf(bit)), [name]);
    }
    assert.equal(featureBit('VIRTIO_F_EVENT_IDX'), 29);
    assert.equal(featureBit('toString'), -1);
    assert.equal(featureBit('VIRTIO_NET_F_NO_SUCH'), -1);
    assert.deepEqual(featureNames(featuresOf(4)), ['bit 4']);
  });
  it('a set that lacks nothing', () => {
    assert.equal(featuresHex(BASIC_NET_FEATURES), '0x130018020');
    assert.equal(missingDependency(BASIC_NET_FEATURES), -1);
  });
  it('dependencies (virtio 1.2 §5.1.3.1)', () => {
    assert.equal(missingDependency(featuresOf(VIRTIO_NET_F_CTRL_RX)), VIRTIO_NET_F_CTRL_RX);
    assert.equal(missingDependency(featuresOf(VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_VQ)), -1);
    assert.equal(missingDependency(featuresOf(VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_CSUM)), VIRTIO_NET_F_GUEST_ECN);
    const ecn = featuresOf(VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_CSUM);
    assert.equal(missingDependency(ecn), -1, 'either TSO will do');
    const hash = featuresOf(VIRTIO_NET_F_HASH_TUNNEL, VIRTIO_NET_F_CTRL_VQ);
    assert.equal(missingDependency(hash), VIRTIO_NET_F_HASH_TUNNEL);
    assert.equal(missingDependency(orFeatures(hash, featuresOf(VIRTIO_NET_F_RSS))), -1);
    assert.equal(missingDependency(featuresFromHex('0x10130bfffa7')), -1, 'what QEMU offers');
  });
});

describe('device status', () => {
  it('goes up in order', () => {
    let s = 0;
    for (const w of [1, 3, 0xb, 0xf]) {
      s = nextStatus(s, w, true);
      assert.equal(s, w);
    }
    assert.deepEqual(statusNames(0xf), ['ACKNOWLEDGE', 'DRIVER', 'DRIVER_OK', 'FEATURES_OK']);
  });
  it('refuses what the specification forbids', () => {
    assert.equal(nextStatus(3, 0xb, false), 3, 'FEATURES_OK for features that do not fit');
    assert.equal(nextStatus(0xb, 1, true), 0xb, 'bits cannot be cleared');
    assert.equal(nextStatus(3, 7, true), 3, 'DRIVER_OK needs FEATURES_OK');
    assert.equal(nextStatus(0x4b, 0xf, true), 0x4b, 'DRIVER_OK on a device that needs a reset');
    assert.equal(nextStatus(3, 0x43, true), 3, 'DEVICE_NEEDS_RESET is the device’s own');
    assert.equal(nextStatus(3, 0x83, false), 0x83, 'FAILED always');
    assert.equal(nextStatus(0xb, 0xf, false), 0xf, 'accepted features are not looked at again');
  });
  it('never loses a bit and never gains one that nobody wrote', () => {
    fc.assert(
      fc.property(fc.nat(255), fc.nat(255), fc.boolean(), (current, written, ok) => {
        const next = nextStatus(current, written, ok);
        assert.equal(next & current, current);
        assert.equal(next & ~(current | written), 0);
      }),
      { verbose: 1 },
    );
  });
});

describe('device configuration', () => {
  it('is MAC and link status; past the end all ones, an access across it as a whole', () => {
    const c = new NetConfig([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    const bytes = Array.from({ length: 32 }, (_, i) => c.read(i, 1).toString(16).padStart(2, '0')).join('');
    assert.equal(bytes, '5254001234560100ffffffffffffffffffffffffffffffffffffffffffffffff');
    assert.equal(c.read(6, 2), 1);
    assert.equal(c.read(7, 2), 0xffff);
    assert.equal(c.read(4, 4), 0x0001_5634);
    assert.equal(c.read(6, 4), 0xffff_ffff);
    assert.equal(c.read(-1, 1), 0xff);
  });
  it('knows whether the link changed', () => {
    const c = new NetConfig([0, 0, 0, 0, 0, 0]);
    assert.equal(c.setLinkUp(true), false);
    assert.equal(c.setLinkUp(false), true);
    assert.equal(c.read(6, 2), 0);
    assert.throws(() => new NetConfig([1, 2, 3]), RangeError);
  });
});
