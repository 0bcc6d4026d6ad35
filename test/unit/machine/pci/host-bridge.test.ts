/** The PCI bus of a guest's machine: configuration mechanism, scan, placing of BARs, and where addresses and ports lead. */

import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { bootPci } from '../../../../src/machine/guest/probe/boot.ts';
import { type PciConfigMechanism, scanBus } from '../../../../src/machine/guest/probe/pci-scan.ts';
import { CONFIG_ADDRESS, CONFIG_DATA, configAddress, PciHostBridge } from '../../../../src/machine/pci/host-bridge.ts';
import { BareFunction, FIRST_FREE_SLOT, q35HostBridge } from '../../../../src/machine/pci/q35.ts';
import { VirtioPciDevice, type VirtioPciOptions } from '../../../../src/machine/virtio/pci-transport.ts';
import { BASIC_NET_FEATURES } from '../virtio/basic-features.ts';

const nic = (options: Partial<VirtioPciOptions> = {}): VirtioPciDevice =>
  new VirtioPciDevice({
    mac: [0x52, 0x54, 0, 0, 0, 1],
    offered: BASIC_NET_FEATURES,
    queueSizes: [256, 256],
    ...options,
  });
/** Through the ports, as a CPU does it. */
const portsOf = (bridge: PciHostBridge): PciConfigMechanism => ({
  read: (slot, fn, offset, width) => {
    bridge.ioWrite(CONFIG_ADDRESS, 4, configAddress(slot, fn, offset));
    return bridge.ioRead(CONFIG_DATA + (offset & 3), width);
  },
  write: (slot, fn, offset, width, value) => {
    bridge.ioWrite(CONFIG_ADDRESS, 4, configAddress(slot, fn, offset));
    bridge.ioWrite(CONFIG_DATA + (offset & 3), width, value);
  },
});

describe('configuration mechanism #1', () => {
  test('selects function and dword; what is not there reads all ones, and takes no write', () => {
    const bridge = q35HostBridge();
    const device = nic();
    bridge.add(1, 0, device);
    const ports = portsOf(bridge);
    assert.equal(ports.read(1, 0, 0, 4), 0x1041_1af4);
    assert.equal(ports.read(1, 0, 2, 2), 0x1041);
    assert.equal(ports.read(1, 0, 3, 1), 0x10);
    assert.deepEqual(
      [1, 2, 4].map((width) => ports.read(2, 0, 0, width)),
      [0xff, 0xffff, 0xffff_ffff],
    );
    assert.equal(ports.read(1, 1, 0, 4), 0xffff_ffff);
    ports.write(1, 0, 4, 2, 0x107);
    assert.equal(device.command, 0x107);
    ports.write(2, 0, 4, 2, 0x107);
    // another bus, and the enable bit clear
    for (const address of [0x8001_0800, 0x0000_0800]) {
      bridge.ioWrite(CONFIG_ADDRESS, 4, address);
      assert.equal(bridge.ioRead(CONFIG_DATA, 4), 0xffff_ffff);
    }
    // only whole words reach the address register
    bridge.ioWrite(CONFIG_ADDRESS, 4, configAddress(1, 0, 0));
    bridge.ioWrite(CONFIG_ADDRESS, 1, 0xff);
    assert.equal(bridge.ioRead(CONFIG_DATA, 4), 0x1041_1af4);
    assert.throws(() => bridge.add(1, 0, nic()), RangeError);
    assert.throws(() => bridge.add(32, 0, nic()), RangeError);
  });
  test('any access of any width: nothing throws, and values fit', () => {
    const bridge = q35HostBridge();
    bridge.add(1, 0, nic({ flavour: 'transitional' }));
    bootPci(portsOf(bridge));
    const place = fc.oneof(
      fc.nat(0xffff),
      fc.constantFrom(0xcf8, 0xcfc, 0xcfe, 0xc000, 0xc040),
      fc.nat(0xffff_ffff),
      fc.constantFrom(-1, 0.5),
    );
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(3), place, fc.constantFrom(1, 2, 4, 8, 3), fc.nat(0xffff_ffff))),
        (accesses) => {
          for (const [op, at, width, value] of accesses) {
            if (op === 0) bridge.ioWrite(at, width, value);
            else if (op === 1) bridge.memoryWrite(at, width, value);
            else {
              const got = op === 2 ? bridge.ioRead(at, width) : bridge.memoryRead(at, width);
              assert.ok(Number.isInteger(got) && got >= 0 && got < 2 ** 32);
            }
          }
        },
      ),
    );
  });
});

describe('scan', () => {
  test('finds the functions of the machine and the NICs, in order, and no others', () => {
    const bridge = q35HostBridge();
    bridge.add(FIRST_FREE_SLOT, 0, nic());
    bridge.add(FIRST_FREE_SLOT + 4, 0, nic({ flavour: 'transitional' }));
    const found = scanBus(portsOf(bridge));
    assert.deepEqual(
      found.map((f) => [f.slot, f.fn, f.vendor, f.device, f.class]),
      [
        [0, 0, 0x8086, 0x29c0, 0x0600],
        [1, 0, 0x1af4, 0x1041, 0x0200],
        [5, 0, 0x1af4, 0x1000, 0x0200],
        [31, 0, 0x8086, 0x2918, 0x0601],
        [31, 2, 0x8086, 0x2922, 0x0106],
        [31, 3, 0x8086, 0x2930, 0x0c05],
      ],
    );
  });
  test('further functions of a slot are asked for where the first says that there are any', () => {
    for (const several of [true, false]) {
      const bridge = new PciHostBridge();
      bridge.add(1, 0, new BareFunction({ device: 1, revision: 0, class: 0x0600, multiFunction: several }));
      bridge.add(1, 2, nic());
      assert.deepEqual(
        scanBus(portsOf(bridge)).map((f) => f.fn),
        several ? [0, 2] : [0],
      );
    }
  });
});

describe('placing', () => {
  test('one NIC lies where SeaBIOS puts it on a q35', () => {
    const bridge = q35HostBridge();
    const device = nic({ flavour: 'transitional' });
    bridge.add(1, 0, device);
    bootPci(portsOf(bridge));
    assert.deepEqual(
      [0, 1, 4].map((bar) => device.barAddress(bar)),
      [0xc040, 0xfebc_0000, 0xfebf_c000],
    );
    assert.equal(device.readConfig(0x30, 4), 0xfeb8_0000);
    assert.equal(device.command, 0x103, 'decoding is on, bus mastering is the driver’s to switch on');
  });
  test('any set of NICs: BARs are aligned and apart, and each address leads to its device', () => {
    const flavour = fc.constantFrom('modern', 'transitional', 'legacy');
    const options = fc.record(
      { flavour, vectors: fc.constantFrom(0, 4, 300), pagePerVq: fc.boolean() },
      { noNullPrototype: true },
    );
    fc.assert(
      fc.property(fc.array(options, { minLength: 1, maxLength: 30, size: 'max' }), (list) => {
        const bridge = q35HostBridge();
        const devices = list.map((o, i) => {
          const device = nic({
            ...o,
            pagePerVq: o.pagePerVq && list.length < 8,
          });
          bridge.add(FIRST_FREE_SLOT + i, 0, device);
          return device;
        });
        assert.equal(bootPci(portsOf(bridge)).filter((f) => f.vendor === 0x1af4).length, list.length);
        const taken: { io: boolean; from: number; to: number }[] = [];
        for (const device of devices) {
          for (let bar = 0; bar < 6; bar++) {
            const size = device.barSize(bar);
            if (size === 0) continue;
            const from = device.barAddress(bar);
            const io = device.barIsIo(bar);
            assert.equal(from % size, 0);
            assert.ok(from > 0 && from + size <= (io ? 0x1_0000 : 0xfec0_0000));
            for (const other of taken) assert.ok(other.io !== io || from >= other.to || from + size <= other.from);
            taken.push({ io, from, to: from + size });
          }
          const msix = device.barAddress(1);
          if (msix !== 0) {
            bridge.memoryWrite(msix + 8, 4, 0x41);
            assert.equal(device.readBar(1, 8, 4), 0x41);
          }
          if (device.flavour !== 'modern') {
            bridge.ioWrite(device.barAddress(0) + 18, 1, 1);
            assert.equal(device.status, 1);
          }
        }
      }),
      { numRuns: 60, verbose: 1 },
    );
  });
  test('with decoding off nobody answers', () => {
    const bridge = q35HostBridge();
    const device = nic();
    bridge.add(1, 0, device);
    bootPci(portsOf(bridge));
    const at = device.barAddress(4);
    assert.equal(bridge.memoryRead(at + 0x12, 2), 2);
    device.writeConfig(4, 2, 0x101);
    assert.equal(bridge.memoryRead(at + 0x12, 2), 0xffff);
  });
});
