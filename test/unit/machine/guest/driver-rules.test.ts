/**
 * What the specification asks of a driver while it starts: both drivers on a device that is watched, and on devices that
 * lie, are slow, or offer what makes no sense.
 */

import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import {
  type Features,
  featuresOf,
  hasFeature,
  isSubset,
  minusFeatures,
  missingDependency,
  orFeatures,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_STATUS,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../../../src/machine/virtio/features.ts';
import { BASIC_NET_FEATURES } from '../virtio/basic-features.ts';
import { DRIVERS, type Lie, MAC, makeDevice, type Probe, probe, WANTED, WIDTHS } from './probe/driver-bus.ts';

const STATUS = 'common.device_status';
const without = (...bits: number[]): Features => minusFeatures(BASIC_NET_FEATURES, featuresOf(...bits));
/** Every register that sets a queue up or lets it go. */
const isQueueWrite = (name: string): boolean => /^common\.queue_(size|desc|driver|device|enable|msix|reset)/.test(name);
/** Indices of the accesses by which a driver says FEATURES_OK, and looks whether it stands. */
function featuresOk({ bus }: Probe): { written: number; read: number } {
  const written = bus.log.findIndex((a) => a.op === 'write' && a.name === STATUS && (a.value & 8) !== 0);
  return { written, read: bus.first('read', STATUS, undefined, written) };
}

describe.each(DRIVERS)('%s', (driver) => {
  test('status goes up bit by bit, in order, and only a reset clears it {core.status.1} {core.status.2} {core.init.1}', () => {
    const p = probe(driver);
    assert.equal(p.result.failed, undefined);
    const statuses = p.bus.writes(STATUS);
    assert.deepEqual(statuses, [0, 1, 3, 0xb, 0xf]);
    const { written, read } = featuresOk(p);
    const driverOk = p.bus.first('write', STATUS, 0xf);
    for (const [i, { op, name }] of p.bus.log.entries()) {
      if (op !== 'write') continue;
      if (name.startsWith('common.driver_feature')) {
        assert.ok(i > p.bus.first('write', STATUS, 3) && i < written, 'features between DRIVER and FEATURES_OK');
      }
      if (isQueueWrite(name)) assert.ok(i > read && i < driverOk, `${name} between FEATURES_OK and DRIVER_OK`);
    }
    assert.ok(read > written && read < driverOk, 'FEATURES_OK is read again');
  });

  test('nothing is accepted after FEATURES_OK {core.init.4}', () => {
    const p = probe(driver);
    assert.equal(p.bus.first('write', 'common.driver_feature', undefined, featuresOk(p).written), -1);
  });

  test('a device that drops FEATURES_OK is given up, with FAILED, before any queue is touched {core.init.5} {core.init.6} {core.init.7}', () => {
    const lie: Lie = (name, value) => (name === STATUS ? value & ~8 : value);
    const { bus, result } = probe(driver, { lie });
    assert.notEqual(result.failed, undefined);
    assert.equal(bus.writes(STATUS).at(-1)! & 0x84, 0x80, 'FAILED, never DRIVER_OK');
    assert.ok(!bus.log.some((a) => a.op === 'write' && isQueueWrite(a.name)));
  });

  test('no notification before DRIVER_OK, and no write to device configuration at all {core.init.8} {core.init.3} {net.config.15}', () => {
    const { bus } = probe(driver);
    assert.ok(!bus.log.some((a) => a.name.startsWith('notify')));
    assert.ok(!bus.log.some((a) => a.op === 'write' && a.name.startsWith('device')));
  });

  test('after a failure the next attempt starts with a reset {core.status.3}', () => {
    const device = makeDevice({ offered: without(VIRTIO_F_VERSION_1) });
    const failed = probe(driver, { device });
    assert.notEqual(failed.result.failed, undefined);
    assert.equal(device.status & 0x80, 0x80);
    const again = probe(driver, { device });
    assert.deepEqual(again.bus.writes(STATUS)[0], 0);
  });

  test('a reset is over when the status reads 0, and not earlier {core.reset.3} {pci.common.21}', () => {
    let reads = 0;
    const lie: Lie = (name, value, log) => {
      const reset = log.findIndex((a) => a.op === 'write' && a.name === STATUS && a.value === 0);
      if (name !== STATUS || reset < 0 || log.some((a) => a.op === 'write' && a.name === STATUS && a.value !== 0)) {
        return value;
      }
      return ++reads < 20 ? 0xf : value;
    };
    const { bus, result } = probe(driver, { lie });
    assert.equal(result.failed, undefined);
    const reset = bus.first('write', STATUS, 0);
    const after = bus.log.slice(reset + 1, reset + 21);
    assert.ok(after.every((a) => a.op === 'read' && a.name === STATUS));
    assert.equal(after.at(-1)!.value, 0);
    assert.equal(bus.first('write', STATUS, undefined, reset + 1), reset + 22, 'then a read, and ACKNOWLEDGE');
  });

  test('accepts only what is offered, each bit with what it needs, whatever is offered {core.features.1} {core.features.2} {core.features.3}', () => {
    // The device takes anything that was offered, so that the driver alone decides.
    const word = fc.nat(0xffff_ffff);
    fc.assert(
      fc.property(word, word, (lo, hi) => {
        const offered = orFeatures({ lo, hi }, featuresOf(VIRTIO_F_VERSION_1));
        const lie: Lie = (name, value, log) =>
          name === STATUS ? (log.findLast((a) => a.op === 'write' && a.name === STATUS)?.value ?? value) : value;
        const { bus } = probe(driver, { offered, lie });
        const accepted = [0, 0];
        let select = 0;
        for (const { op, name, value } of bus.log) {
          if (op === 'write' && name === 'common.driver_feature_select') select = value;
          if (op === 'write' && name === 'common.driver_feature') accepted[select] = value;
        }
        const features = { lo: accepted[0]!, hi: accepted[1]! };
        assert.ok(isSubset(features, offered));
        const said = bus.writes(STATUS).some((status) => (status & 8) !== 0);
        if (said) assert.equal(missingDependency(features), -1, 'FEATURES_OK for bits that lack others');
      }),
      { numRuns: 300, verbose: 1 },
    );
  });

  test('bits that are undefined or reserved are ignored: not accepted, and no reason to fail {core.features.4} {core.features.5} {core.features.8}', () => {
    // Of the transport, of no meaning to a network device, and never assigned.
    for (const bit of [4, 25, 31, 39, 42, 44, 47, 49, 58]) {
      const { result, device } = probe(driver, { offered: orFeatures(BASIC_NET_FEATURES, featuresOf(bit)) });
      assert.equal(result.failed, undefined, `bit ${bit}`);
      assert.ok(!hasFeature(device.driverFeatures, bit), `bit ${bit}`);
    }
  });

  test('a bit that is missing is done without {core.features.6}', () => {
    for (const bit of [
      VIRTIO_NET_F_MAC,
      VIRTIO_NET_F_MRG_RXBUF,
      VIRTIO_NET_F_STATUS,
      VIRTIO_RING_F_EVENT_IDX,
      VIRTIO_RING_F_INDIRECT_DESC,
    ]) {
      const { result, device } = probe(driver, { offered: without(bit) });
      assert.equal(result.failed, undefined, `bit ${bit}`);
      assert.ok(!hasFeature(device.driverFeatures, bit));
    }
  });

  test('VERSION_1 is accepted where it is offered, and FAILED without it {core.reserved.1} {core.reserved.2} {core.features.7}', () => {
    assert.ok(hasFeature(probe(driver).device.driverFeatures, VIRTIO_F_VERSION_1));
    const { bus, result } = probe(driver, { offered: without(VIRTIO_F_VERSION_1) });
    assert.notEqual(result.failed, undefined);
    assert.equal(bus.writes(STATUS).at(-1)! & 0x80, 0x80);
    assert.ok(!bus.log.some((a) => a.op === 'write' && isQueueWrite(a.name)));
  });

  test('without ACCESS_PLATFORM rings are given by their physical addresses {core.reserved.5}', () => {
    const { device, rings } = probe(driver);
    assert.deepEqual(
      device.queues.filter((q) => q.enabled).map((q) => q.descGpa),
      rings,
    );
  });

  test('rings of any size are aligned to 16, 2 and 4 bytes {split.layout.1}', () => {
    for (const size of [2, 4, 8, 32, 64, 256, 1024, 32_768]) {
      const { device, result } = probe(driver, { queueSizes: [size, size, 64] });
      assert.equal(result.failed, undefined, `size ${size}`);
      for (const q of device.queues.filter((queue) => queue.enabled)) {
        assert.deepEqual([q.descGpa % 16, q.driverGpa % 2, q.deviceGpa % 4], [0, 0, 0], `size ${size}`);
      }
    }
  });

  test('a configuration that changes while it is read is read again, in pieces of a byte {core.config.1} {core.config.2}', () => {
    // The generation moves in the middle of the first reading, and the address with it.
    let bytes = 0;
    const lie: Lie = (name, value) => {
      const at = /^device\+([0-5])$/.exec(name)?.[1];
      if (at !== undefined) return ++bytes <= 3 ? 0xee : value;
      return name === 'common.config_generation' && bytes > 0 ? 1 : value;
    };
    const { result } = probe(driver, { lie });
    assert.ok(result.failed === undefined);
    assert.deepEqual(result.mac, MAC);
    assert.equal(bytes, 12);
  });

  test('optional fields of the configuration are read only with their feature {core.config.3}', () => {
    const readsOf = (offered: Features): Set<string> =>
      new Set(
        probe(driver, { offered })
          .bus.log.filter((a) => a.name.startsWith('device'))
          .map((a) => a.name),
      );
    assert.deepEqual([...readsOf(without(VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS))], []);
    assert.ok(!readsOf(without(VIRTIO_NET_F_MAC)).has('device+0'));
    assert.ok(!readsOf(without(VIRTIO_NET_F_STATUS)).has('device+6'));
    assert.ok(readsOf(BASIC_NET_FEATURES).has('device+6'));
  });

  test('structures that are longer than they need to be are taken {core.config.4} {core.config.5} {pci.caps.6} {pci.caps.3}', () => {
    // The length of every virtio capability's region, and the length of the capability itself.
    const { device } = probe(driver);
    const caps: number[] = [];
    for (let at = device.readConfig(0x34, 1); at !== 0; at = device.readConfig(at + 1, 1)) {
      if (device.readConfig(at, 1) === 9) caps.push(at);
    }
    assert.ok(caps.length >= 4);
    const lie: Lie = (name, value) => {
      const at = Number(/^pci\+(\d+)$/.exec(name)?.[1] ?? -1);
      if (caps.includes(at - 12)) return value + 0x1000;
      if (caps.includes(at - 2)) return value + 8;
      // the length is the third byte of a wide access
      return caps.includes(at) && value > 0xffff ? value + 0x8_0000 : value;
    };
    const { result } = probe(driver, { lie });
    assert.equal(result.failed, undefined);
  });

  test('every register is accessed with its own width, halves of 64-bit fields apart {pci.access.1} {pci.access.2}', () => {
    const { bus } = probe(driver);
    for (const { name, width } of bus.log) {
      if (name.startsWith('common')) assert.equal(width, WIDTHS.get(name), name);
      if (/^device\+[0-5]$/.test(name)) assert.equal(width, 1);
      if (name === 'device+6') assert.equal(width, 2);
      if (name.startsWith('msix')) assert.equal(width, 4);
    }
  });

  test('read-only registers are not written, queue_enable last of all and never with 0 {pci.common.17} {pci.common.20} {pci.common.22}', () => {
    const { bus } = probe(driver);
    const readOnly = /^common\.(device_feature|num_queues|config_generation|queue_notify_off|queue_notif_config_data)$/;
    assert.ok(!bus.log.some((a) => a.op === 'write' && readOnly.test(a.name)));
    assert.deepEqual(new Set(bus.writes('common.queue_enable')), new Set([1]));
    // By queue: nothing of it is written behind its queue_enable.
    let selected = 0;
    const enabled = new Set<number>();
    for (const { op, name, value } of bus.log) {
      if (op !== 'write') continue;
      if (name === 'common.queue_select') selected = value;
      if (name === 'common.queue_enable') enabled.add(selected);
      else if (isQueueWrite(name)) assert.ok(!enabled.has(selected), `${name} of queue ${selected}`);
    }
    assert.equal(enabled.size, 2);
  });

  test('capabilities are not written, and the window behind PCI_CFG is left alone {pci.caps.7} {pci.cfgaccess.4} {pci.cfgaccess.5}', () => {
    const { bus, device } = probe(driver);
    const inCapability = new Set<number>();
    for (let at = device.readConfig(0x34, 1); at !== 0; at = device.readConfig(at + 1, 1)) {
      if (device.readConfig(at, 1) !== 9) continue;
      for (let i = 0; i < device.readConfig(at + 2, 1); i++) inCapability.add(at + i);
    }
    for (const { op, name } of bus.log) {
      const at = Number(/^pci\+(\d+)$/.exec(name)?.[1] ?? -1);
      if (op === 'write') assert.ok(!inCapability.has(at), name);
    }
  });

  test('the address is that of the device where there is one, and one of its own where not {net.config.16} {net.config.17}', () => {
    const { result, device } = probe(driver);
    assert.ok(result.failed === undefined);
    assert.ok(hasFeature(WANTED[driver], VIRTIO_NET_F_MAC) && hasFeature(device.driverFeatures, VIRTIO_NET_F_MAC));
    assert.deepEqual(result.mac, MAC);
  });

  test('the link is bit 0 of status with STATUS, and up without {net.config.19} {net.config.20}', () => {
    for (const [status, up] of [
      [0, false],
      [1, true],
      [2, false],
      [3, true],
    ] as const) {
      const { result } = probe(driver, { lie: (name, value) => (name === 'device+6' ? status : value) });
      assert.ok(result.failed === undefined);
      assert.equal(result.linkUp, up);
    }
    const blind = probe(driver, { offered: without(VIRTIO_NET_F_STATUS) });
    assert.ok(blind.result.failed === undefined && blind.result.linkUp);
  });
});

describe('MSI-X, the Linux driver', () => {
  test('each mapping is read back; where one does not stand, the driver goes on with the pin {pci.msix.13} {pci.msix.12} {pci.msix.14}', () => {
    const { bus } = probe('virtio-net');
    for (const name of ['common.config_msix_vector', 'common.queue_msix_vector']) {
      const writes = bus.log.flatMap((a, i) => (a.op === 'write' && a.name === name ? [i] : []));
      assert.ok(writes.length > 0);
      for (const i of writes) {
        const next = bus.log.slice(i + 1).find((a) => a.name === name);
        assert.deepEqual([next?.op, next?.value], ['read', bus.log[i]!.value]);
        assert.ok(bus.log[i]!.value < 4, 'the table has four entries');
      }
      const { result, device } = probe('virtio-net', { lie: (at, value) => (at === name ? 0xffff : value) });
      assert.ok(result.failed === undefined);
      assert.deepEqual([result.vectors, device.msixEnabled], [[], false]);
      assert.ok(result.queues.every((q) => q.msixVector === 0xffff));
    }
  });

  test('works with any table: its size, fewer vectors than queues, none at all {pci.msix.10} {pci.msix.11}', () => {
    for (const vectors of [0, 1, 2, 3, 4, 64]) {
      const { result } = probe('virtio-net', { vectors });
      assert.ok(result.failed === undefined, `${vectors} vectors`);
    }
  });

  test('the ISR is not read while MSI-X is on {pci.isr.6}', () => {
    assert.equal(probe('virtio-net').bus.first('read', 'isr'), -1);
  });
});
