import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import type { PciAccess } from '../../../../src/machine/guest/probe/probe-types.ts';
import {
  firmwareInit,
  LINUX_6_1_VIRTIO_NET_FEATURES,
  probeVirtioNet,
  SEABIOS_Q35_ASSIGNMENT,
} from '../../../../src/machine/guest/probe/virtio-probe.ts';
import { featuresFromHex, hasFeature, VIRTIO_F_VERSION_1 } from '../../../../src/machine/virtio/features.ts';
import { VirtioPciDevice } from '../../../../src/machine/virtio/pci-transport.ts';
import type { VirtioHooks } from '../../../../src/machine/virtio/virtio-device.ts';
import { virtio_pci_common_cfg as C } from '../../../../src/machine/wire/pci.ts';
import { BASIC_NET_FEATURES } from './basic-features.ts';

const identity = JSON.parse(readFileSync(new URL('../../../vectors/pci/identity.json', import.meta.url), 'utf8')) as {
  modern_only: { device_config: { hex_first_32_bytes: string } };
};
const MAC = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
function make(hooks: VirtioHooks = {}, queueSizes = [256, 256]): VirtioPciDevice {
  const d = new VirtioPciDevice({ mac: MAC, offered: BASIC_NET_FEATURES, queueSizes, hooks });
  d.writeConfig(4, 2, 0x103);
  return d;
}
const bus = (d: VirtioPciDevice): PciAccess => ({
  cfgRead: (o, w) => d.readConfig(o, w),
  cfgWrite: (o, w, v) => d.writeConfig(o, w, v),
  barRead: (b, o, w) => d.readBar(b, o, w),
  barWrite: (b, o, w, v) => d.writeBar(b, o, w, v),
});
function live(hooks: VirtioHooks = {}): VirtioPciDevice {
  const d = make(hooks);
  firmwareInit(bus(d), SEABIOS_Q35_ASSIGNMENT);
  let gpa = 0x10_0000;
  const result = probeVirtioNet(bus(d), { alloc: () => (gpa += 0x2000) }, LINUX_6_1_VIRTIO_NET_FEATURES);
  assert.equal(result.failed, undefined);
  return d;
}
const read = (d: VirtioPciDevice, f: { offset: number; width: number }): number => d.readBar(4, f.offset, f.width);
const write = (d: VirtioPciDevice, f: { offset: number; width: number }, v: number): void =>
  d.writeBar(4, f.offset, f.width, v);
function negotiate(d: VirtioPciDevice, lo: number, hi: number): number {
  for (const s of [0, 1, 3]) write(d, C.device_status, s);
  write(d, C.driver_feature_select, 0);
  write(d, C.driver_feature, lo);
  write(d, C.driver_feature_select, 1);
  write(d, C.driver_feature, hi);
  write(d, C.device_status, 0xb);
  return read(d, C.device_status);
}

describe('configuration space', () => {
  it('BARs answer their size, keep their type bits, and are where they were put', () => {
    const d = make();
    const size = (at: number): number => {
      d.writeConfig(at, 4, 0xffff_ffff);
      return d.readConfig(at, 4);
    };
    assert.deepEqual(
      [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30].map(size),
      [0, 0xffff_f000, 0, 0, 0xffff_c00c, 0xffff_ffff, 0xfffc_0001],
    );
    firmwareInit(bus(d), SEABIOS_Q35_ASSIGNMENT);
    assert.equal(d.barAddress(1), 0xfebc_0000);
    assert.equal(d.barAddress(4), 0xfebf_c000);
    assert.equal(d.barAddress(0), 0);
  });
  it('identity is read-only, byte and word accesses see the same bytes', () => {
    const d = make();
    for (let at = 0; at < 256; at += 4) if (at < 0x10 || (at >= 0x2c && at < 0x30)) d.writeConfig(at, 4, 0);
    assert.equal(d.readConfig(0, 4), 0x1041_1af4);
    assert.equal(d.readConfig(8, 4), 0x0200_0001);
    assert.equal(d.readConfig(0x2c, 4), 0x1100_1af4);
    assert.equal(d.readConfig(0x9a, 2), d.readConfig(0x9a, 1) | (d.readConfig(0x9b, 1) << 8));
    assert.equal(d.readConfig(255, 2), 0xffff);
  });
  it('PCI_CFG is a window into BAR4', () => {
    const d = make();
    const window = (offset: number, length: number): void => {
      d.writeConfig(0x84 + 4, 1, 4);
      d.writeConfig(0x84 + 8, 4, offset);
      d.writeConfig(0x84 + 12, 4, length);
    };
    window(0x2000, 4);
    assert.equal(d.readConfig(0x84 + 16, 4), 0x1200_5452);
    window(C.device_status.offset, 1);
    d.writeConfig(0x84 + 16, 1, 1);
    assert.equal(read(d, C.device_status), 1);
  });
  it('BARs answer nothing while memory decoding is off', () => {
    const d = make();
    d.writeConfig(4, 2, 0);
    assert.equal(read(d, C.num_queues), 0xffff);
    write(d, C.device_status, 1);
    assert.equal(d.status, 0);
  });
});

describe('common configuration', () => {
  it('offers the same bits whatever is selected, none beyond', () => {
    const d = make();
    const word = (select: number): number => {
      write(d, C.device_feature_select, select);
      return read(d, C.device_feature);
    };
    assert.deepEqual([word(0), word(1), word(2), word(0xffff_ffff)], [0x3001_8020, 1, 0, 0]);
    const qemu = featuresFromHex('0x10130bfffa7');
    assert.ok(hasFeature(qemu, VIRTIO_F_VERSION_1), 'the recorded device has many more: see features.ts, DEVIATION');
  });
  it('refuses FEATURES_OK for foreign bits, without VERSION_1, and lets a driver try again', () => {
    const d = make();
    assert.equal(negotiate(d, 0x3001_8021, 1), 3);
    assert.equal(negotiate(d, 0x3001_8020, 0), 3);
    assert.equal(negotiate(d, 0x3001_8020, 1), 0xb);
    write(d, C.driver_feature_select, 0);
    write(d, C.driver_feature, 0);
    assert.equal(d.driverFeatures.lo, 0x3001_8020, 'frozen after FEATURES_OK');
  });
  it('queues: powers of two up to the largest, 0 for one that does not exist', () => {
    const d = make();
    negotiate(d, 0x3001_8020, 1);
    for (const [value, want] of [
      [128, 128],
      [100, 128],
      [0, 128],
      [512, 128],
      [256, 256],
    ] as const) {
      write(d, C.queue_size, value);
      assert.equal(read(d, C.queue_size), want);
    }
    write(d, C.queue_select, 7);
    assert.equal(read(d, C.queue_size), 0);
    assert.equal(read(d, C.queue_enable), 0);
    assert.equal(read(d, C.queue_msix_vector), 0xffff);
    write(d, C.queue_enable, 1);
    write(d, C.queue_desc_lo, 0x1000);
    assert.equal(read(d, C.queue_desc_lo), 0);
  });
  it('vectors read back, NO_VECTOR for one that the table has not', () => {
    const d = make();
    write(d, C.config_msix_vector, 3);
    assert.equal(read(d, C.config_msix_vector), 3);
    write(d, C.config_msix_vector, 4);
    assert.equal(read(d, C.config_msix_vector), 0xffff);
    write(d, C.queue_msix_vector, 4);
    assert.equal(read(d, C.queue_msix_vector), 0xffff);
  });
  it('bad ring addresses and queue_enable 0 break the device; a reset mends it', () => {
    for (const [field, value] of [
      [C.queue_desc_lo, 0x1008],
      [C.queue_driver_lo, 0x1001],
      [C.queue_device_lo, 0x1002],
      [C.queue_desc_hi, 0xffff_ffff],
    ] as const) {
      const d = make();
      negotiate(d, 0x3001_8020, 1);
      write(d, field, value);
      write(d, C.queue_enable, 1);
      assert.equal(d.status, 0x4b);
      assert.equal(d.queues[0]!.enabled, false);
      write(d, C.device_status, 0xf);
      assert.equal(d.status, 0x4b, 'no DRIVER_OK');
      write(d, C.device_status, 0);
      assert.equal(d.status, 0);
      assert.equal(read(d, C.queue_desc_lo), 0);
    }
    const d = make();
    negotiate(d, 0x3001_8020, 1);
    write(d, C.queue_enable, 0);
    assert.equal(d.status, 0x4b);
  });
  it('reset puts everything back and tells', () => {
    let resets = 0;
    const d = live({ onReset: () => resets++ });
    const before = resets;
    write(d, C.device_status, 0);
    assert.equal(resets, before + 1);
    assert.deepEqual(d.driverFeatures, { lo: 0, hi: 0 });
    assert.ok(d.queues.every((q) => !q.enabled && q.size === 256 && q.msixVector === 0xffff && q.descGpa === 0));
    assert.equal(read(d, C.config_msix_vector), 0xffff);
    assert.equal(d.msixEnabled, true, 'PCI state stays');
  });
  it('halves of a 64-bit field, and 8-byte accesses', () => {
    const d = make();
    negotiate(d, 0x3001_8020, 1);
    d.writeBar(4, C.queue_desc_lo.offset, 8, 0x1_2345_6000);
    assert.equal(read(d, C.queue_desc_lo), 0x2345_6000);
    assert.equal(read(d, C.queue_desc_hi), 1);
  });
});

describe('notifications', () => {
  it('reach a live queue, by offset', () => {
    const seen: [number, number][] = [];
    const d = live({ onNotify: (q, v) => seen.push([q, v]) });
    d.writeBar(4, 0x3004, 2, 1);
    d.writeBar(4, 0x3000, 2, 0);
    const refused = d.refused;
    d.writeBar(4, 0x3008, 2, 2);
    assert.deepEqual(seen, [
      [1, 1],
      [0, 0],
    ]);
    assert.equal(d.refused, refused + 1);
    write(d, C.device_status, 0);
    d.writeBar(4, 0x3000, 2, 0);
    assert.equal(seen.length, 2, 'not before DRIVER_OK');
  });
  it('status hooks come in order, with queues enabled in between', () => {
    const log: string[] = [];
    live({
      onStatus: (s) => log.push(`status ${s}`),
      onReset: () => log.push('reset'),
      onQueueEnable: (q) => log.push(`queue ${q.index} ${q.size}`),
      onDriverFeatures: (select, bits) => log.push(`features ${select} ${bits.toString(16)}`),
    });
    assert.deepEqual(log, [
      'reset',
      'status 1',
      'status 3',
      'features 0 30018020',
      'features 1 1',
      'status 11',
      'queue 0 256',
      'queue 1 256',
      'status 15',
    ]);
  });
  it('masked vectors keep their message pending until they are unmasked, alone or as a function', () => {
    const sent: [number, number][] = [];
    const d = live({ onMsi: (vector, m) => sent.push([vector, m.data]) });
    assert.deepEqual(d.notifyQueue(1), { address: 0xfee0_1004, data: 0x29 });
    d.writeBar(1, 0x2c, 4, 1);
    assert.equal(d.notifyQueue(1), null);
    assert.equal(d.readBar(1, 0x800, 4), 0b100);
    d.writeBar(1, 0x800, 4, 0);
    assert.equal(d.readBar(1, 0x800, 8), 0b100, 'pending bits are read-only');
    d.writeBar(1, 0x2c, 4, 0);
    assert.deepEqual(sent, [[2, 0x29]]);
    assert.equal(d.readBar(1, 0x800, 4), 0);
    d.writeConfig(0x9a, 2, 0xc003);
    assert.equal(d.notifyQueue(0), null);
    d.writeConfig(0x9a, 2, 0x8003);
    assert.deepEqual(sent[1], [1, 0x28]);
    assert.equal(d.msixMessage(0xffff), null);
    assert.equal(d.notifyQueue(9), null);
  });
  it('a pulled cable: status, generation, configuration interrupt', () => {
    const sent: number[] = [];
    const d = live({ onMsi: (vector) => sent.push(vector) });
    d.setLinkUp(false);
    assert.deepEqual(sent, [0]);
    assert.equal(d.readBar(4, 0x2006, 2), 0);
    assert.equal(read(d, C.config_generation), 1);
    d.setLinkUp(false);
    assert.deepEqual(sent, [0]);
  });
  it('INTx: ISR, the status bit, cleared by the read', () => {
    const levels: boolean[] = [];
    const d = new VirtioPciDevice({
      mac: MAC,
      offered: BASIC_NET_FEATURES,
      queueSizes: [256, 256],
      vectors: 0,
      hooks: { onIntx: (level) => levels.push(level) },
    });
    firmwareInit(bus(d), SEABIOS_Q35_ASSIGNMENT);
    let gpa = 0;
    probeVirtioNet(bus(d), { alloc: () => (gpa += 0x2000) }, LINUX_6_1_VIRTIO_NET_FEATURES);
    assert.equal(d.notifyQueue(0), null);
    assert.equal(d.readConfig(6, 2), 0x18);
    assert.equal(d.readBar(4, 0x1000, 1), 1);
    assert.equal(d.readBar(4, 0x1000, 1), 0);
    assert.equal(d.readConfig(6, 2), 0x10);
    assert.deepEqual(levels, [true, false]);
  });
  it('without bus mastering the device goes out of service', () => {
    const d = live();
    d.writeConfig(4, 2, 0x503);
    assert.equal(d.status, 0xb);
  });
});

describe('hostile guests', () => {
  it('device configuration reads as recorded', () => {
    const d = make();
    const hex = Array.from({ length: 32 }, (_, i) =>
      d
        .readBar(4, 0x2000 + i, 1)
        .toString(16)
        .padStart(2, '0'),
    ).join('');
    assert.equal(hex, identity.modern_only.device_config.hex_first_32_bytes);
  });
  it('any accesses: nothing throws, values fit their width, the state keeps its rules', () => {
    const interesting = fc.oneof(
      fc.nat(0xffff_ffff),
      fc.constantFrom(0, 1, 3, 0xb, 0xf, 0x8b, 0x3001_8020, 0x8003, 0xc003, 0x107, 256, 0x1000),
    );
    const access = fc.record({
      op: fc.constantFrom('cr', 'cw', 'br', 'bw', 'bw'),
      bar: fc.constantFrom(4, 4, 4, 1, 0, 5, -1),
      offset: fc.oneof(fc.nat(0x3c), fc.nat(0x4100), fc.constantFrom(-1, 0.5, 0x3000, 0x3004, 2 ** 40)),
      width: fc.constantFrom(1, 2, 4, 8, 3, 0),
      value: fc.oneof(interesting, fc.constantFrom(-1, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY)),
    });
    fc.assert(
      fc.property(fc.boolean(), fc.array(access, { maxLength: 200, size: 'max' }), (started, accesses) => {
        const d = started ? live() : make();
        for (const a of accesses) {
          if (a.op === 'cr' || a.op === 'br') {
            const v = a.op === 'cr' ? d.readConfig(a.offset, a.width) : d.readBar(a.bar, a.offset, a.width);
            assert.ok(Number.isInteger(v) && v >= 0 && v < 2 ** 32);
            if (a.width === 1 || a.width === 2) assert.ok(v < 2 ** (8 * a.width));
          } else if (a.op === 'cw') d.writeConfig(a.offset, a.width, a.value);
          else d.writeBar(a.bar, a.offset, a.width, a.value);
          if ((d.status & 4) !== 0) assert.ok((d.status & 8) !== 0, 'DRIVER_OK without FEATURES_OK');
          for (const q of d.queues) {
            assert.ok(q.size > 0 && q.size <= q.maxSize && (q.size & (q.size - 1)) === 0);
            if (q.enabled) assert.ok(q.descGpa % 16 === 0 && q.driverGpa % 2 === 0 && q.deviceGpa % 4 === 0);
          }
          assert.equal(d.readConfig(0, 4), 0x1041_1af4);
        }
        d.notifyQueue(0);
        d.setLinkUp(false);
      }),
      { verbose: 1, numRuns: 300 },
    );
  });
});
