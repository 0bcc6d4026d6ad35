/** The table of feature bits that documents know, against the bits that the machine knows, and what follows from other bits. */
import { describe, expect, it } from 'vitest';
import { FEATURE_RULES, FEATURES, lacking, resolveFeatures } from '../../../src/lab/document-features.ts';
import {
  FEATURE_BITS,
  featureNames,
  featuresHex,
  featuresOf,
  minusFeatures,
  missingDependency,
  VIRTIO_F_BAD_FEATURE,
  VIRTIO_NET_F_RSC_EXT,
  VIRTIO_NET_F_STANDBY,
} from '../../../src/machine/virtio/features.ts';
import { deviceOffer, NET_OFFERABLE } from '../../../src/machine/virtio/net/net-offers.ts';

const MODERN = {
  packed: false,
  mtu: null,
  speed: null,
  duplex: null,
  transport: 'pci-modern',
  queuePairs: 1,
  backend: 'virtio-net',
  vmm: 'qemu',
} as const;
const setOf = (features: Readonly<Record<string, boolean>>) =>
  featuresOf(...FEATURES.filter((name) => features[name]).map((name) => FEATURE_BITS[name]!));

describe('feature bits of documents', () => {
  it('every name is one that the machine knows, with its bit', () => {
    for (const rule of FEATURE_RULES) expect(FEATURE_BITS[rule.name], rule.name).toBe(rule.bit);
    expect(new Set(FEATURES).size).toBe(FEATURES.length);
  });
  it("they are all of QEMU's device, but for the legacy bit that no driver may accept and those that ours does not honour", () => {
    const not = featuresOf(VIRTIO_F_BAD_FEATURE, VIRTIO_NET_F_RSC_EXT, VIRTIO_NET_F_STANDBY);
    const offerable = featureNames(minusFeatures(NET_OFFERABLE, not));
    expect(FEATURES).toEqual(offerable);
  });
  it('the device offers what the table says {core.features.9}', () => {
    for (const transport of ['pci-modern', 'pci-legacy'] as const) {
      for (const name of FEATURES) {
        const fields = { ...MODERN, queuePairs: 2, transport };
        const features = resolveFeatures({ [name]: false }, fields);
        const offer = minusFeatures(deviceOffer({ ...fields, features }), featuresOf(VIRTIO_F_BAD_FEATURE));
        expect(featuresHex(offer), `${transport} ${name}`).toBe(featuresHex(setOf(features)));
      }
    }
  });
  // QEMU 7.2.22, device_feature words read by a Linux 6.1 guest.
  it.each<[string, object, string]>([
    ['disable-legacy=on', MODERN, '0x10130bfffa7'],
    ['disable-legacy=on,host_mtu=1450', { ...MODERN, mtu: 1450 }, '0x10130bfffaf'],
    ['disable-legacy=on,mq=on,vectors=10', { ...MODERN, queuePairs: 4 }, '0x10130ffffa7'],
    ['disable-legacy=on,packed=on', { ...MODERN, packed: true }, '0x10530bfffa7'],
    ['disable-legacy=on,speed=10000,duplex=full', { ...MODERN, speed: 10_000, duplex: 'full' }, '0x8000010130bfffa7'],
    // QEMU's legacy interface has bit 30 besides (VIRTIO_F_BAD_FEATURE): 0x79bfffe7.
    ['disable-modern=on', { ...MODERN, transport: 'pci-legacy' }, '0x39bfffe7'],
  ])('defaults are those of QEMU: %s', (_, fields, expected) => {
    expect(featuresHex(setOf(resolveFeatures({}, fields as typeof MODERN)))).toBe(expected);
  });
  it('what is left of the defaults when one bit is off has all that it needs {core.features.9}', () => {
    for (const name of FEATURES) {
      const left = resolveFeatures({ [name]: false }, { ...MODERN, queuePairs: 2, transport: 'pci-transitional' });
      expect(left[name]).toBe(false);
      expect(missingDependency(setOf(left)), name).toBe(-1);
      for (const rule of FEATURE_RULES)
        if (left[rule.name]) expect(lacking(rule, left), `${name} ${rule.name}`).toBe(null);
    }
  });
  it('each bit alone lacks at least what the specification says that it needs', () => {
    for (const rule of FEATURE_RULES) {
      const alone = { [rule.name]: true };
      if (missingDependency(setOf(alone)) === rule.bit) expect(lacking(rule, alone), rule.name).not.toBe(null);
    }
  });
});
