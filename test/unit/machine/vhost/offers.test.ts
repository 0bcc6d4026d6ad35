import assert from 'node:assert/strict';
import { describe, it } from 'vitest';
import { DPDK_22_11_VIRTIO_PMD_FEATURES } from '../../../../src/machine/guest/probe/virtio-pmd-probe.ts';
import { LINUX_6_1_VIRTIO_NET_FEATURES } from '../../../../src/machine/guest/probe/virtio-probe.ts';
import {
  ackedFeatures,
  DPDK_22_11_TESTPMD_OFFER,
  DPDK_22_11_VHOST_LIBRARY,
  OVS_DPDK_OFFER,
  OVS_DPDK_TSO_OFFER,
  offeredWithBackend,
  QEMU_KERNEL_FEATURE_BITS,
  QEMU_USER_FEATURE_BITS,
  VHOST_NET_OFFER,
  VHOST_USER_ALWAYS,
} from '../../../../src/machine/vhost/offers.ts';
import { type BackendOffer, whyMissing } from '../../../../src/machine/vhost/why-missing.ts';
import {
  andFeatures,
  type Features,
  featureBit,
  featureNames,
  featuresFromHex,
  featuresHex,
  hasFeature,
  isSubset,
  minusFeatures,
  missingDependency,
  NO_FEATURES,
} from '../../../../src/machine/virtio/features.ts';
import { deviceOffer, type OfferOptions } from '../../../../src/machine/virtio/net/net-offers.ts';

const bits = (f: Features): string => featureNames(f).join(' ');
const vhostNet: BackendOffer = { kind: 'vhost-net', offer: VHOST_NET_OFFER, decides: QEMU_KERNEL_FEATURE_BITS };
const ovs: BackendOffer = {
  kind: 'vhost-user',
  offer: OVS_DPDK_OFFER,
  decides: QEMU_USER_FEATURE_BITS,
  userspaceTso: false,
};
const ovsTso: BackendOffer = { ...ovs, offer: OVS_DPDK_TSO_OFFER, userspaceTso: true };
const qemu: BackendOffer = { kind: 'qemu', offer: NO_FEATURES, decides: NO_FEATURES };
const offered = (nic: OfferOptions, b: BackendOffer): Features =>
  offeredWithBackend(deviceOffer(nic), b.offer, b.decides);
const plain: OfferOptions = { features: {} };

describe('what back-ends offer', () => {
  it('the lists, by name where they differ from each other', () => {
    assert.equal(featuresHex(VHOST_NET_OFFER), '0x33d008000');
    assert.equal(
      bits(minusFeatures(DPDK_22_11_VHOST_LIBRARY, DPDK_22_11_TESTPMD_OFFER)),
      'VIRTIO_NET_F_HOST_TSO4 VIRTIO_NET_F_HOST_TSO6',
    );
    assert.equal(bits(minusFeatures(DPDK_22_11_VHOST_LIBRARY, OVS_DPDK_OFFER)), 'VIRTIO_NET_F_CSUM');
    assert.equal(
      bits(minusFeatures(DPDK_22_11_VHOST_LIBRARY, OVS_DPDK_TSO_OFFER)),
      'VIRTIO_NET_F_HOST_ECN VIRTIO_NET_F_HOST_UFO',
    );
    for (const name of ['VIRTIO_F_RING_PACKED', 'VIRTIO_F_IN_ORDER', 'VIRTIO_RING_F_INDIRECT_DESC', 'VIRTIO_NET_F_MQ'])
      assert.ok(hasFeature(DPDK_22_11_TESTPMD_OFFER, featureBit(name)), name);
    for (const name of [
      'VIRTIO_F_RING_RESET',
      'VIRTIO_F_NOTIFICATION_DATA',
      'VIRTIO_NET_F_GUEST_USO4',
      'VIRTIO_NET_F_RSS',
    ])
      assert.ok(!hasFeature(DPDK_22_11_VHOST_LIBRARY, featureBit(name)), name);
  });
  it('testpmd behind QEMU: SET_FEATURES as it was recorded with a Linux driver, but for ECN and UFO without TSO', () => {
    // recorded: the guest accepted, among QEMU's own, what the next line sends
    const accepted = andFeatures(
      offered(plain, { ...ovs, offer: DPDK_22_11_TESTPMD_OFFER }),
      LINUX_6_1_VIRTIO_NET_FEATURES,
    );
    const sent = ackedFeatures(accepted, QEMU_USER_FEATURE_BITS, VHOST_USER_ALWAYS);
    assert.equal(bits(minusFeatures(featuresFromHex('0x17020e783'), sent)), 'VIRTIO_NET_F_HOST_ECN');
    assert.ok(isSubset(sent, featuresFromHex('0x17020e783')));
  });
  it('the guest sees no bit without what it needs, whatever the back-end leaves out {core.features.9}', () => {
    const rich = { features: {}, queuePairs: 4, packed: true, mtu: 1500 };
    for (const b of [qemu, vhostNet, ovs, ovsTso, { ...ovs, offer: NO_FEATURES }])
      for (const nic of [plain, rich]) assert.equal(missingDependency(offered(nic, b)), -1);
    // what the document leaves without its need stays, as in QEMU
    const orphan = offered({ features: { VIRTIO_NET_F_CTRL_VQ: false } }, vhostNet);
    assert.ok(hasFeature(orphan, featureBit('VIRTIO_NET_F_CTRL_RX')));
  });
  it('through each of them: the offer of the device and what is left', () => {
    const lost = (b: BackendOffer, nic = plain): string => bits(minusFeatures(deviceOffer(nic), offered(nic, b)));
    assert.equal(lost(qemu), '');
    assert.equal(lost(vhostNet), 'VIRTIO_F_RING_RESET');
    assert.equal(
      lost(vhostNet, { features: {}, packed: true, mtu: 9000 }),
      'VIRTIO_NET_F_MTU VIRTIO_F_RING_PACKED VIRTIO_F_RING_RESET',
    );
    assert.equal(
      lost(ovs),
      'VIRTIO_NET_F_CSUM VIRTIO_NET_F_HOST_TSO4 VIRTIO_NET_F_HOST_TSO6 VIRTIO_NET_F_HOST_ECN VIRTIO_NET_F_HOST_UFO VIRTIO_F_RING_RESET',
    );
    assert.equal(lost(ovsTso), 'VIRTIO_NET_F_HOST_ECN VIRTIO_NET_F_HOST_UFO VIRTIO_F_RING_RESET');
    assert.equal(
      lost(ovs, { features: { VIRTIO_F_IN_ORDER: true }, packed: true, mtu: 1500 }).includes('PACKED'),
      false,
    );
  });
});

describe('why a bit is missing', () => {
  const linux = { driverFeatures: LINUX_6_1_VIRTIO_NET_FEATURES, driverName: 'linux 6.1' };
  const why = (name: string, backend: BackendOffer, nic: OfferOptions = plain, accepted?: Features | null): string => {
    const shown = offered(nic, backend);
    const took = accepted === undefined ? andFeatures(shown, linux.driverFeatures) : accepted;
    return whyMissing(featureBit(name), { nic, backend, offered: shown, accepted: took, ...linux });
  };
  it('by who left it out', () => {
    assert.equal(why('VIRTIO_NET_F_CSUM', qemu), '');
    assert.equal(
      why('VIRTIO_NET_F_CSUM', qemu, { features: { VIRTIO_NET_F_CSUM: false } }),
      'turned off in the document',
    );
    assert.equal(why('VIRTIO_F_RING_RESET', vhostNet), 'the vhost-net kernel module does not offer it');
    assert.equal(why('VIRTIO_F_RING_RESET', ovs), 'the vhost-user back-end does not offer it');
    assert.equal(why('VIRTIO_NET_F_CSUM', ovs), 'OVS disables it without userspace-tso-enable');
    assert.equal(why('VIRTIO_NET_F_HOST_TSO4', ovs), 'needs VIRTIO_NET_F_CSUM, which is not offered');
    assert.equal(why('VIRTIO_NET_F_CSUM', ovsTso), '');
    assert.equal(why('VIRTIO_NET_F_HOST_UFO', ovsTso), 'the vhost-user back-end does not offer it');
    assert.equal(why('VIRTIO_NET_F_CTRL_RX_EXTRA', qemu), 'not accepted by the driver (linux 6.1)');
    const noCtrl = minusFeatures(offered(plain, qemu), featuresFromHex('0xa0000'));
    assert.equal(
      why('VIRTIO_NET_F_CTRL_VLAN', qemu, plain, noCtrl),
      'needs VIRTIO_NET_F_CTRL_VQ, which was not accepted',
    );
    assert.equal(why('VIRTIO_NET_F_CTRL_VQ', qemu, plain, noCtrl), 'left out by the driver (linux 6.1)');
    assert.equal(why('VIRTIO_NET_F_CSUM', qemu, plain, null), 'no driver has accepted features yet');
  });
  it('a reason for every bit of both drivers that is not in use', () => {
    for (const driver of [LINUX_6_1_VIRTIO_NET_FEATURES, DPDK_22_11_VIRTIO_PMD_FEATURES])
      for (const backend of [qemu, vhostNet, ovs, ovsTso]) {
        const shown = offered(plain, backend);
        const accepted = andFeatures(shown, driver);
        for (let bit = 0; bit < 64; bit++) {
          const text = whyMissing(bit, {
            nic: plain,
            backend,
            offered: shown,
            accepted,
            driverFeatures: driver,
            driverName: 'x',
          });
          assert.equal(text === '', hasFeature(accepted, bit));
          assert.notEqual(text, 'not offered');
        }
      }
  });
});
