/** How both drivers find a device: which ids they take, and what they make of lists of capabilities that no device of ours has. */

import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import type { PciAccess, ProbeOptions, ProbeResult } from '../../../../src/machine/guest/probe/probe-types.ts';
import { probeVirtioPmd } from '../../../../src/machine/guest/probe/virtio-pmd-probe.ts';
import { probeVirtioNet } from '../../../../src/machine/guest/probe/virtio-probe.ts';
import {
  featuresOf,
  orFeatures,
  VIRTIO_F_RING_PACKED,
  VIRTIO_NET_F_MTU,
} from '../../../../src/machine/virtio/features.ts';
import { NetConfig } from '../../../../src/machine/virtio/net/net-config.ts';
import { VirtioPciDevice, type VirtioPciOptions } from '../../../../src/machine/virtio/pci-transport.ts';
import { BASIC_NET_FEATURES } from '../virtio/basic-features.ts';
import { DRIVERS, type Driver, WANTED } from './probe/driver-bus.ts';

const MAC = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
function make(options: Partial<VirtioPciOptions> = {}): VirtioPciDevice {
  const offered = options.offered ?? BASIC_NET_FEATURES;
  const d = new VirtioPciDevice({ mac: MAC, offered, queueSizes: [256, 256], vectors: 0, ...options });
  d.writeConfig(0x10, 4, 0xc040);
  d.writeConfig(0x20, 4, 0xfe00_0000);
  d.writeConfig(4, 2, 3);
  return d;
}
/** A vendor capability, as struct virtio_pci_cap has it. */
interface Cap {
  readonly type: number;
  readonly bar: number;
  readonly offset: number;
  readonly length: number;
  readonly multiplier?: number;
}
const REAL: readonly Cap[] = [
  { type: 1, bar: 4, offset: 0, length: 0x1000 },
  { type: 3, bar: 4, offset: 0x1000, length: 0x1000 },
  { type: 4, bar: 4, offset: 0x2000, length: 0x1000 },
  { type: 2, bar: 4, offset: 0x3000, length: 0x1000, multiplier: 4 },
];

/** The device with another list of capabilities, and other bytes in its header; what a driver does to BARs is written down. */
class Relisted implements PciAccess {
  readonly bars: string[] = [];
  readonly written: [offset: number, value: number][] = [];
  configReads = 0;
  private readonly device: VirtioPciDevice;
  private readonly bytes: Map<number, number>;
  private readonly lie: (offset: number, value: number) => number;

  constructor(
    device: VirtioPciDevice,
    caps: readonly Cap[] | null = null,
    header: readonly (readonly [number, number])[] = [],
    lie = (_: number, value: number): number => value,
  ) {
    this.device = device;
    this.lie = lie;
    this.bytes = new Map(header);
    if (caps === null) return;
    const view = new DataView(new ArrayBuffer(256));
    view.setUint8(0x34, caps.length === 0 ? 0 : 0x40);
    for (const [i, { type, bar, offset, length, multiplier }] of caps.entries()) {
      const at = 0x40 + 20 * i;
      for (const [j, byte] of [9, i + 1 < caps.length ? at + 20 : 0, 20, type, bar].entries())
        view.setUint8(at + j, byte);
      view.setUint32(at + 8, offset, true);
      view.setUint32(at + 12, length, true);
      view.setUint32(at + 16, multiplier ?? 0, true);
    }
    for (let at = 0x34; at < 256; at++) if (at < 0x38 || at >= 0x40) this.bytes.set(at, view.getUint8(at));
  }
  cfgRead(offset: number, width: number): number {
    this.configReads++;
    let value = 0;
    for (let i = 0; i < width; i++) {
      value += (this.bytes.get(offset + i) ?? this.device.readConfig(offset + i, 1)) * 2 ** (8 * i);
    }
    return value;
  }
  cfgWrite(offset: number, width: number, value: number): void {
    this.device.writeConfig(offset, width, value);
  }
  barRead(bar: number, offset: number, width: number): number {
    this.bars.push(`${bar}+${offset}`);
    return this.lie(offset, this.device.readBar(bar, offset, width));
  }
  barWrite(bar: number, offset: number, width: number, value: number): void {
    this.bars.push(`${bar}+${offset}`);
    this.written.push([offset, value]);
    this.device.writeBar(bar, offset, width, value);
  }
}
function probe(driver: Driver, bus: Relisted, options: ProbeOptions = {}): ProbeResult {
  let next = 0x10_0000;
  const alloc = (bytes: number): number => {
    const at = next;
    next += Math.ceil(bytes / 4096) * 4096;
    return at;
  };
  const wanted = WANTED[driver];
  return driver === 'virtio-net'
    ? probeVirtioNet(bus, { alloc }, wanted, options)
    : probeVirtioPmd(bus, { alloc }, wanted);
}
const word = (at: number, value: number): [number, number][] => [
  [at, value & 0xff],
  [at + 1, value >>> 8],
];

describe.each(DRIVERS)('%s', (driver) => {
  test('takes 0x1af4 with 0x1041 or 0x1000, and nothing else {pci.id.8} {pci.id.9}', () => {
    const id = fc.oneof(fc.nat(0xffff), fc.constantFrom(0x1af4, 0x1041, 0x1000, 0x1001, 0x1040, 0x1042, 0x107f));
    fc.assert(
      fc.property(id, id, (vendor, device) => {
        const bus = new Relisted(make(), null, [...word(0, vendor), ...word(2, device)]);
        const net = vendor === 0x1af4 && (device === 0x1041 || device === 0x1000);
        assert.equal(probe(driver, bus).failed === undefined, net);
        if (!net) assert.deepEqual(bus.bars, []);
      }),
      {
        examples: [
          [0x1af4, 0x1041],
          [0x1af4, 0x1000],
          [0x1af4, 0x1042],
        ],
      },
    );
  });

  test('any revision and any subsystem {pci.id.10} {pci.id.11}', () => {
    fc.assert(
      fc.property(fc.nat(0xff), fc.nat(0xffff), fc.nat(0xffff), fc.boolean(), (revision, vendor, id, transitional) => {
        const device = make({ flavour: transitional ? 'transitional' : 'modern' });
        const bus = new Relisted(device, null, [[8, revision], ...word(0x2c, vendor), ...word(0x2e, id)]);
        assert.equal(probe(driver, bus).failed, undefined);
      }),
    );
  });

  test('capabilities of a reserved type, or in a BAR that there cannot be, are passed over {pci.caps.1} {pci.caps.4}', () => {
    const strange: Cap[] = [
      ...[0, 10, 77, 255].map((type) => ({ type, bar: 4, offset: 0x800, length: 0x100 })),
      ...[1, 2, 3, 4].map((type) => ({ type, bar: 6 + type, offset: 0x800, length: 0x1000, multiplier: 4 })),
      { type: 1, bar: 255, offset: 0x800, length: 0x1000 },
    ];
    const plain = probe(driver, new Relisted(make(), REAL));
    assert.ok(plain.failed === undefined);
    for (const odd of strange) {
      for (let at = 0; at <= REAL.length; at++) {
        const bus = new Relisted(make(), [...REAL.slice(0, at), odd, ...REAL.slice(at)]);
        const result = probe(driver, bus);
        assert.ok(result.failed === undefined, `${JSON.stringify(odd)} at ${at}`);
        assert.deepEqual(result.queues, plain.queues);
        assert.ok(!bus.bars.some((place) => place.startsWith(`${odd.bar}+`) && odd.bar !== 4));
      }
    }
    // without a usable one of a type there is no device
    assert.notEqual(probe(driver, new Relisted(make(), REAL.slice(1))).failed, undefined);
  });

  test('of several capabilities of a type the first is taken {pci.caps.2}', () => {
    const common = REAL[0]!;
    const notify = { ...REAL[3]!, offset: 0x3800, length: 0x800, multiplier: 8 };
    const bus = new Relisted(make(), [...REAL, { ...common, offset: 0x400 }, { ...REAL[2]!, offset: 0x2800 }, notify]);
    const result = probe(driver, bus);
    assert.ok(result.failed === undefined);
    assert.deepEqual(
      result.queues.map((q) => q.notifyOffset),
      [0x3000, 0x3004],
    );
    const second = new Relisted(make(), [notify, ...REAL]);
    const other = probe(driver, second);
    assert.ok(other.failed === undefined);
    assert.deepEqual(
      other.queues.map((q) => q.notifyOffset),
      [0x3800, 0x3808],
    );
    for (const b of [bus, second]) {
      const outside = b.bars.filter((place) => Number(place.slice(2)) >= 0x100 && Number(place.slice(2)) < 0x1000);
      assert.deepEqual(outside, []);
      assert.ok(!b.bars.includes('4+10240'));
    }
  });

  test('a ring is never given a size that it cannot have {pci.common.18} {pci.common.19}', () => {
    const size = fc.oneof(fc.nat(0xffff), fc.constantFrom(0, 1, 2, 3, 100, 256, 1000, 32768, 32769));
    fc.assert(
      fc.property(fc.boolean(), size, fc.option(size, { nil: undefined }), (packed, said, limit) => {
        const offered = packed ? orFeatures(BASIC_NET_FEATURES, featuresOf(VIRTIO_F_RING_PACKED)) : BASIC_NET_FEATURES;
        const lie = (offset: number, value: number): number => (offset === 0x18 ? said : value);
        const bus = new Relisted(make({ offered }), null, [], lie);
        const result = probe(driver, bus, limit === undefined ? {} : { queueSizes: [limit, limit] });
        const sizes = bus.written.filter(([offset]) => offset === 0x18).map(([, value]) => value);
        const valid = (n: number): boolean => n > 0 && n <= 32768 && (packed || Math.log2(n) % 1 === 0);
        for (const n of sizes) assert.ok(valid(n), `${n}`);
        if (result.failed === undefined) assert.ok(result.queues.every((q) => valid(q.size)));
        // the polling driver leaves the size alone, and so has to go by what the device says
        if (driver === 'virtio-pmd') assert.deepEqual([sizes, result.failed === undefined], [[], valid(said)]);
      }),
    );
  });
});

describe('the Linux driver', () => {
  test('maps a large notification window queue by queue, and of the others what it uses {pci.caps.5}', () => {
    const reads = (options: Partial<VirtioPciOptions>): { config: number; result: ProbeResult; bus: Relisted } => {
      const bus = new Relisted(make({ queueSizes: new Array(8).fill(256), ...options }));
      const result = probe('virtio-net', bus);
      return { config: bus.configReads, result, bus };
    };
    const whole = reads({});
    const pages = reads({ pagePerVq: true });
    assert.ok(whole.result.failed === undefined && pages.result.failed === undefined);
    // three reads for a mapping: one at all, or one for each queue that is used
    assert.equal(pages.config - whole.config, 3 * pages.result.queues.length - 3);
    assert.deepEqual(
      pages.result.queues.map((q) => q.notifyOffset),
      [0x3000, 0x4000],
    );
    for (const place of [...whole.bus.bars, ...pages.bus.bars]) {
      const at = Number(place.slice(2));
      assert.ok(at < 0x3c || (at >= 0x2000 && at < 0x2000 + 24), place);
    }
  });

  test('looks at the MTU while it chooses features, and does without one that is too small {core.init.2}', () => {
    const offered = orFeatures(BASIC_NET_FEATURES, featuresOf(VIRTIO_NET_F_MTU));
    for (const mtu of [1450, 68]) {
      const bus = new Relisted(make({ offered, netConfig: new NetConfig(MAC, { offered, mtu }) }));
      const result = probe('virtio-net', bus);
      assert.ok(result.failed === undefined);
      assert.equal(result.mtu, mtu);
      // behind the last word of features, before the status that says FEATURES_OK
      const read = bus.bars.indexOf(`4+${0x2000 + 10}`);
      assert.deepEqual(bus.bars.slice(read - 1, read + 2), ['4+12', `4+${0x2000 + 10}`, '4+20']);
    }
    const small = new Relisted(
      make({ offered, netConfig: new NetConfig(MAC, { offered, mtu: 1450 }) }),
      null,
      [],
      (at, v) => (at === 0x2000 + 10 ? 67 : v),
    );
    const result = probe('virtio-net', small);
    assert.ok(result.failed === undefined);
    assert.equal(result.mtu, null);
  });
});
