import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { DPDK_22_11_VIRTIO_PMD_FEATURES } from '../../../../../src/machine/guest/probe/virtio-pmd-probe.ts';
import { LINUX_6_1_VIRTIO_NET_FEATURES } from '../../../../../src/machine/guest/probe/virtio-probe.ts';
import {
  andFeatures,
  dependentsOf,
  FEATURE_BITS,
  FEATURES_BEYOND_63,
  type Features,
  featureBit,
  featureName,
  featureNames,
  featuresFromHex,
  featuresHex,
  featuresOf,
  hasFeature,
  isSubset,
  missingDependency,
  NO_FEATURES,
  needsOf,
  orFeatures,
  VIRTIO_F_ADMIN_VQ,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_SR_IOV,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GSO,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_MTU,
  withoutOrphans,
} from '../../../../../src/machine/virtio/features.ts';
import {
  deviceOffer,
  LEGACY_ONLY,
  legacyOffer,
  NET_OFFERABLE,
  NET_ON_REQUEST,
  NEVER_OFFERED,
  QEMU_NET_DEFAULTS,
  whyNotOffered,
} from '../../../../../src/machine/virtio/net/net-offers.ts';
import { GOLDEN, optionsOf } from '../golden-options.ts';

const words = fc.record({ lo: fc.nat(0xffff_ffff), hi: fc.nat(0xffff_ffff) }, { noNullPrototype: true });
/** The dependencies, worked out the slow way: remove one bit at a time. */
function naiveWithoutOrphans(f: Features): number[] {
  const set = new Set(Array.from({ length: 64 }, (_, b) => b).filter((b) => hasFeature(f, b)));
  for (let again = true; again; ) {
    again = false;
    for (const bit of [...set]) {
      if (needsOf(bit).every((group) => group.some((b) => set.has(b)))) continue;
      set.delete(bit);
      again = true;
    }
  }
  return [...set].sort((a, b) => a - b);
}

describe('what the device offers', () => {
  for (const [name, golden] of Object.entries(GOLDEN)) {
    it(`as QEMU 7.2 does: ${name}`, () => {
      assert.equal(featuresHex(deviceOffer(optionsOf(name))), golden.offered);
    });
    it(`a Linux 6.1 driver takes of it what the recorded one took: ${name} {core.features.1} {core.features.5} {core.features.8}`, () => {
      const options = optionsOf(name);
      // linux drivers/net/virtio_net.c, features_legacy[]: two more bits through the legacy interface
      const legacy = featuresOf(VIRTIO_NET_F_GSO, VIRTIO_F_ANY_LAYOUT);
      const known = orFeatures(
        LINUX_6_1_VIRTIO_NET_FEATURES,
        options.transport === 'pci-legacy' ? legacy : NO_FEATURES,
      );
      assert.equal(featuresHex(andFeatures(deviceOffer(options), known)), golden.accepted);
    });
  }

  it('both drivers take MTU and packed rings where they are offered {net.config.21} {core.reserved.6}', () => {
    const offered = deviceOffer({ features: {}, mtu: 1450, packed: true });
    for (const driver of [LINUX_6_1_VIRTIO_NET_FEATURES, DPDK_22_11_VIRTIO_PMD_FEATURES])
      for (const bit of [VIRTIO_NET_F_MTU, VIRTIO_F_RING_PACKED])
        assert.ok(hasFeature(andFeatures(offered, driver), bit));
    assert.ok(hasFeature(featuresFromHex(GOLDEN['host_mtu_1450']!.accepted), VIRTIO_NET_F_MTU), 'as recorded');
    assert.ok(hasFeature(featuresFromHex(GOLDEN['packed']!.accepted), VIRTIO_F_RING_PACKED), 'as recorded');
  });
  it('by default, modern and legacy, and both by a transitional device {core.reserved.12}', () => {
    assert.equal(featuresHex(deviceOffer({ features: {} })), '0x10130bfffa7');
    assert.equal(featuresHex(deviceOffer({ features: {}, transport: 'mmio' })), '0x10130bfffa7');
    const transitional = { features: {}, transport: 'pci-transitional' };
    assert.equal(featuresHex(deviceOffer(transitional)), '0x10130bfffa7');
    assert.equal(featuresHex(legacyOffer(transitional)), '0x79bfffe7');
    assert.ok(hasFeature(deviceOffer({ features: {} }), VIRTIO_F_VERSION_1));
  });
  it('what newer devices have, where the document asks {core.reserved.18}', () => {
    const features = Object.fromEntries(featureNames(NET_ON_REQUEST).map((name) => [name, true]));
    const offered = deviceOffer({ features });
    assert.ok(isSubset(NET_ON_REQUEST, offered));
    assert.equal(missingDependency(offered), -1);
    assert.ok(!hasFeature(offered, VIRTIO_F_SR_IOV), 'no SR-IOV capability, no VIRTIO_F_SR_IOV');
  });
  it('bits that it never offers, whatever the document says: no administration queue, so no flow filter either', () => {
    const all = Object.fromEntries(
      [...Object.keys(FEATURE_BITS), ...Object.keys(FEATURES_BEYOND_63)].map((n) => [n, true]),
    );
    const offered = deviceOffer({ features: all, queuePairs: 4, packed: true, mtu: 1500, speed: 1000 });
    assert.ok(isSubset(offered, NET_OFFERABLE));
    assert.ok(!hasFeature(offered, VIRTIO_F_ADMIN_VQ));
    assert.ok(NEVER_OFFERED.includes('VIRTIO_F_ADMIN_VQ'));
    for (const [name, bit] of Object.entries(FEATURES_BEYOND_63)) {
      assert.ok(bit >= 64);
      assert.equal(featureBit(name), -1, `${name} cannot be offered`);
    }
  });
  it('a complete document, where each bit has a value, says the same as one that leaves them out', () => {
    const complete = Object.fromEntries(
      Object.keys(FEATURE_BITS).map((n) => [n, hasFeature(QEMU_NET_DEFAULTS, FEATURE_BITS[n]!)]),
    );
    const modern = { ...complete, ...Object.fromEntries(featureNames(LEGACY_ONLY).map((n) => [n, false])) };
    assert.equal(featuresHex(deviceOffer({ features: modern })), '0x10130bfffa7');
    assert.equal(featuresHex(legacyOffer({ features: complete, transport: 'pci-legacy' })), '0x79bfffe7');
  });
  it('no bit without what it needs, unless the document turned that off {core.features.9} {net.config.13} {net.config.14}', () => {
    fc.assert(
      fc.property(words, fc.boolean(), fc.boolean(), (f, packed, hdr) => {
        const off = Object.fromEntries(featureNames(withoutOrphans(f)).map((n) => [n, true]));
        const complete = Object.fromEntries(Object.keys(FEATURE_BITS).map((n) => [n, off[n] === true]));
        const offered = deviceOffer({ features: complete, packed, vnetHdr: hdr });
        if (hdr) assert.equal(missingDependency(offered), -1);
        for (const bit of [VIRTIO_NET_F_HASH_REPORT, VIRTIO_NET_F_CTRL_RX_EXTRA])
          assert.ok(!hasFeature(offered, bit) || hasFeature(offered, VIRTIO_NET_F_CTRL_VQ));
      }),
      { verbose: 1 },
    );
  });
});

describe('dependencies', () => {
  it('the bits that need a bit are found from it, and the other way round', () => {
    for (let bit = 0; bit < 64; bit++) {
      for (const other of dependentsOf(bit)) assert.ok(needsOf(other).some((group) => group.includes(bit)));
      for (const group of needsOf(bit)) for (const other of group) assert.ok(dependentsOf(other).includes(bit));
    }
    assert.deepEqual(dependentsOf(VIRTIO_NET_F_CSUM).map(featureName), [
      'VIRTIO_NET_F_GSO',
      'VIRTIO_NET_F_HOST_TSO4',
      'VIRTIO_NET_F_HOST_TSO6',
      'VIRTIO_NET_F_HOST_UFO',
      'VIRTIO_NET_F_HOST_USO',
    ]);
    assert.equal(dependentsOf(VIRTIO_NET_F_CTRL_VQ).length, 13);
    assert.deepEqual(dependentsOf(VIRTIO_NET_F_HOST_TSO4).map(featureName), [
      'VIRTIO_NET_F_HOST_ECN',
      'VIRTIO_NET_F_RSC_EXT',
    ]);
  });
  it('what is left without orphans agrees with removing bits one by one', () => {
    fc.assert(
      fc.property(words, (f) => {
        const left = withoutOrphans(f);
        assert.deepEqual(left, featuresOf(...naiveWithoutOrphans(f)));
        assert.equal(missingDependency(left), -1);
        assert.deepEqual(withoutOrphans(left), left);
      }),
      { verbose: 1 },
    );
    assert.deepEqual(withoutOrphans(NO_FEATURES), NO_FEATURES);
  });
});

describe('why a bit is not offered', () => {
  const why = (options: Parameters<typeof whyNotOffered>[0], name: string): string | null =>
    whyNotOffered(options, featureBit(name));
  it('in words', () => {
    assert.equal(why({ features: {} }, 'VIRTIO_NET_F_CSUM'), null);
    assert.equal(why({ features: { VIRTIO_NET_F_CSUM: false } }, 'VIRTIO_NET_F_CSUM'), 'turned off in the document');
    assert.equal(why({ features: {} }, 'VIRTIO_NET_F_MQ'), 'the document asks for one queue pair');
    assert.equal(why({ features: {} }, 'VIRTIO_F_RING_PACKED'), 'packed is false in the document');
    assert.equal(why({ features: {} }, 'VIRTIO_NET_F_MTU'), 'the document names no MTU');
    assert.equal(why({ features: {} }, 'VIRTIO_NET_F_SPEED_DUPLEX'), 'the document names no speed');
    assert.equal(why({ features: {} }, 'VIRTIO_NET_F_RSS'), 'not turned on in the document');
    assert.equal(why({ features: {} }, 'VIRTIO_F_ADMIN_VQ'), 'the device has no administration queue');
    assert.equal(why({ features: {} }, 'VIRTIO_F_SUSPEND'), 'the device does not have it');
    assert.equal(why({ features: {} }, 'VIRTIO_NET_F_GSO'), 'the legacy interface alone shows it');
    assert.equal(
      why({ features: {}, transport: 'pci-legacy' }, 'VIRTIO_F_VERSION_1'),
      'the legacy interface has 32 feature bits',
    );
    assert.equal(why({ features: {}, vnetHdr: false }, 'VIRTIO_NET_F_CSUM'), 'the back-end has no virtio-net header');
    const without = { features: { VIRTIO_NET_F_CTRL_VQ: false, VIRTIO_NET_F_CTRL_RX: false } };
    assert.equal(why(without, 'VIRTIO_NET_F_CTRL_RX'), 'needs VIRTIO_NET_F_CTRL_VQ, which is not offered');
  });
});
