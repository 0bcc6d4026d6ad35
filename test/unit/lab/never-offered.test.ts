/**
 * What the device does not do it never offers (virtio 1.4: a device must not offer a bit that it would not honour), however
 * a document sets its bits: read from the registers of booted devices, and from the table of bits that documents know. The
 * conformance page refers to these tests where a statement does not apply.
 */
import assert from 'node:assert/strict';
import { beforeAll, describe, test } from 'vitest';
import { FEATURE_RULES } from '../../../src/lab/document-features.ts';
import { deviceState } from '../../../src/lab/inspect.ts';
import { VirtioPciDevice } from '../../../src/machine/virtio/pci-transport.ts';
import { virtio_pci_common_cfg as C } from '../../../src/machine/wire/pci.ts';
import { BACKENDS, makeWorld, pairDocument, runOut } from './world-driver.ts';

/** Every bit on that a document may turn on by itself. */
const EVERYTHING = {
  mtu: 1500,
  speed: 10_000,
  duplex: 'full',
  features: Object.fromEntries(
    FEATURE_RULES.filter((r) => typeof r.byDefault === 'boolean').map((rule) => [rule.name, true]),
  ),
};
/** Words of feature bits: the first two, and some beyond what this device has. */
const SELECTS = [0, 1, 2, 3, 4, 0x7fff_ffff, 0xffff_ffff];

interface Booted {
  readonly name: string;
  /** Feature word by select. */
  readonly offered: ReadonlyMap<number, number>;
  /** cfg_type of each vendor-specific capability, and ids of all capabilities. */
  readonly cfgTypes: readonly number[];
  readonly capabilities: readonly number[];
  /** Whether there is anything behind the first 256 bytes of configuration space. */
  readonly extended: boolean;
}
const booted: Booted[] = [];

beforeAll(() => {
  for (const backend of BACKENDS) {
    for (const nic of [{}, EVERYTHING]) {
      const world = makeWorld(pairDocument(backend, { nic }));
      runOut(world);
      const { device } = deviceState(world.machine.guests[0]!.nics[0]!).nic;
      assert.ok(device instanceof VirtioPciDevice);
      const offered = new Map<number, number>();
      for (const select of SELECTS) {
        device.writeBar(4, C.device_feature_select.offset, 4, select);
        offered.set(select, device.readBar(4, C.device_feature.offset, 4));
      }
      const capabilities: number[] = [];
      const cfgTypes: number[] = [];
      for (let at = device.readConfig(0x34, 1); at !== 0; at = device.readConfig(at + 1, 1)) {
        const id = device.readConfig(at, 1);
        capabilities.push(id);
        if (id === 9) cfgTypes.push(device.readConfig(at + 3, 1));
      }
      const extended = device.readConfig(0x100, 4) !== 0xffff_ffff && device.readConfig(0x100, 4) !== 0;
      const name = `${backend}, ${nic === EVERYTHING ? 'everything on' : 'defaults'}`;
      booted.push({ name, offered, cfgTypes, capabilities, extended });
    }
  }
});

const BITS: readonly (readonly [name: string, bit: number])[] = [
  ['VIRTIO_F_ACCESS_PLATFORM, where the guest has no IOMMU', 33],
  ['VIRTIO_F_ORDER_PLATFORM', 36],
  ['VIRTIO_F_SR_IOV, and there is no such PCI capability {core.reserved.18}', 37],
  ['VIRTIO_F_NOTIF_CONFIG_DATA', 39],
  ['VIRTIO_F_ADMIN_VQ', 41],
  ['VIRTIO_F_SUSPEND', 43],
  ['VIRTIO_NET_F_RSC_EXT', 61],
  ['VIRTIO_NET_F_STANDBY', 62],
  ['VIRTIO_NET_F_RSS_CONTEXT', 64],
  ['VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO', 65],
  ['VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM', 66],
  ['VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO', 67],
  ['VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM', 68],
  ['VIRTIO_NET_F_OUT_NET_HEADER', 69],
  ['VIRTIO_NET_F_IPSEC', 70],
];

describe('never offered', () => {
  test.each(BITS)('%s', (_, bit) => {
    assert.equal(booted.length, 2 * BACKENDS.length);
    for (const { name, offered, extended } of booted) {
      const word = offered.get(bit >> 5);
      assert.equal((word! >>> (bit & 31)) & 1, 0, name);
      // SR-IOV is an extended capability: there is no room for one.
      assert.equal(extended, false, name);
    }
  });

  test('bits that documents do not know, of all words: nothing that is not honoured {core.features.12}', () => {
    for (const { name, offered } of booted) {
      for (const [select, word] of offered) {
        for (let i = 0; i < 32; i++) {
          if (((word >>> i) & 1) === 0) continue;
          const bit = 32 * select + i;
          assert.ok(
            FEATURE_RULES.some((rule) => rule.bit === bit),
            `${name}: bit ${bit}`,
          );
        }
      }
    }
  });

  test('a bit without those that it needs {core.features.9}', () => {
    for (const { name, offered } of booted) {
      const on = (bit: number): boolean => ((offered.get(bit >> 5)! >>> (bit & 31)) & 1) === 1;
      for (const rule of FEATURE_RULES) {
        const bitOf = (needed: string): number => FEATURE_RULES.find((r) => r.name === needed)!.bit;
        const met = rule.needs.every((group) => group.some((needed) => on(bitOf(needed))));
        assert.ok(met || !on(rule.bit), `${name}: ${rule.name}`);
      }
    }
  });

  test('bits that are turned off', () => {
    for (const { name, byDefault } of FEATURE_RULES) {
      if (byDefault === false) continue;
      const rule = FEATURE_RULES.find((r) => r.name === name)!;
      if (name === 'VIRTIO_F_VERSION_1') continue;
      const needing = FEATURE_RULES.filter((r) => r.needs.some((group) => group.includes(name))).map((r) => r.name);
      const features = Object.fromEntries([name, ...needing].map((n) => [n, false]));
      const world = makeWorld(pairDocument('virtio-net', { nic: { features } }));
      runOut(world);
      const { device } = deviceState(world.machine.guests[0]!.nics[0]!).nic;
      assert.ok(device instanceof VirtioPciDevice);
      device.writeBar(4, C.device_feature_select.offset, 4, rule.bit >> 5);
      assert.equal((device.readBar(4, C.device_feature.offset, 4) >>> (rule.bit & 31)) & 1, 0, name);
    }
  });

  test('VIRTIO_F_VERSION_1 is always offered {core.reserved.12}', () => {
    for (const { name, offered } of booted) assert.equal(offered.get(1)! & 1, 1, name);
  });
});

describe('no such capability', () => {
  test('shared memory (VIRTIO_PCI_CAP_SHARED_MEMORY_CFG): no region at all {core.shm.1}', () => {
    for (const { name, cfgTypes } of booted) assert.ok(!cfgTypes.includes(8), name);
  });
  test('vendor data (VIRTIO_PCI_CAP_VENDOR_CFG)', () => {
    for (const { name, cfgTypes } of booted) assert.ok(!cfgTypes.includes(9), name);
  });
  test('there are one of each that a driver needs, and MSI-X {pci.common.2} {pci.notify.1} {pci.isr.1} {pci.cfgaccess.1}', () => {
    for (const { name, cfgTypes, capabilities } of booted) {
      assert.deepEqual(cfgTypes.toSorted(), [1, 2, 3, 4, 5], name);
      assert.deepEqual(capabilities.filter((id) => id === 0x11).length, 1, name);
    }
  });
});
