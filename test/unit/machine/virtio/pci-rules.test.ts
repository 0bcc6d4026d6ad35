/** What the specification asks of a virtio-pci device, by a guest that looks at configuration space and registers itself. */

import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import {
  type Features,
  featuresOf,
  orFeatures,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
} from '../../../../src/machine/virtio/features.ts';
import type { MsiMessage } from '../../../../src/machine/virtio/msix.ts';
import {
  defaultVectors,
  VirtioPciDevice,
  type VirtioPciOptions,
} from '../../../../src/machine/virtio/pci-transport.ts';
import { virtio_pci_common_cfg as C } from '../../../../src/machine/wire/pci.ts';
import { BASIC_NET_FEATURES } from './basic-features.ts';

const MAC = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
const OFFERED = orFeatures(BASIC_NET_FEATURES, featuresOf(VIRTIO_F_RING_RESET, VIRTIO_F_NOTIFICATION_DATA));
const FLAVOURS = ['modern', 'transitional', 'legacy'] as const;

function make(options: Partial<VirtioPciOptions> = {}): VirtioPciDevice {
  const d = new VirtioPciDevice({ mac: MAC, offered: OFFERED, queueSizes: [256, 256], ...options });
  d.writeConfig(0x14, 4, 0xfebc_0000);
  d.writeConfig(0x20, 4, 0xfe00_0000);
  d.writeConfig(4, 2, 0x107);
  return d;
}
const read = (d: VirtioPciDevice, field: { offset: number; width: number }): number =>
  d.readBar(4, field.offset, field.width);
const write = (d: VirtioPciDevice, field: { offset: number; width: number }, value: number): void =>
  d.writeBar(4, field.offset, field.width, value);
function negotiate(d: VirtioPciDevice, f: Features): void {
  for (const status of [0, 1, 3]) write(d, C.device_status, status);
  for (const [select, word] of [f.lo, f.hi].entries()) {
    write(d, C.driver_feature_select, select);
    write(d, C.driver_feature, word);
  }
  write(d, C.device_status, 0xb);
  assert.equal(read(d, C.device_status), 0xb);
}
function enable(d: VirtioPciDevice, queue: number): void {
  write(d, C.queue_select, queue);
  write(d, C.queue_desc_lo, 0x1_0000 + 0x4000 * queue);
  write(d, C.queue_driver_lo, 0x1_1000 + 0x4000 * queue);
  write(d, C.queue_device_lo, 0x1_2000 + 0x4000 * queue);
  write(d, C.queue_enable, 1);
}
function start(d: VirtioPciDevice, f: Features = OFFERED): void {
  negotiate(d, f);
  for (const queue of [0, 1]) enable(d, queue);
  write(d, C.device_status, 0xf);
}
/** MSI-X on, vectors unmasked, each with a message that says its number. */
function openVectors(d: VirtioPciDevice): void {
  const at = capabilities(d).find((c) => c.id === 0x11)!.at;
  d.writeConfig(at + 2, 2, 0x8000);
  for (let v = 0; v < d.vectors; v++) {
    d.writeBar(1, 16 * v, 4, 0xfee0_0000);
    d.writeBar(1, 16 * v + 8, 4, v);
    d.writeBar(1, 16 * v + 12, 4, 0);
  }
}

interface Capability {
  readonly at: number;
  readonly id: number;
  readonly length: number;
  readonly type: number;
  readonly bar: number;
  readonly offset: number;
  readonly bytes: number;
}
/** The list as it stands in configuration space; the virtio fields are 0 for others. */
function capabilities(d: VirtioPciDevice): Capability[] {
  const found: Capability[] = [];
  for (let at = d.readConfig(0x34, 1); at !== 0; at = d.readConfig(at + 1, 1)) {
    const own = d.readConfig(at, 1) === 9;
    const field = (offset: number, width: number): number => (own ? d.readConfig(at + offset, width) : 0);
    const [length, type, bar] = [field(2, 1), field(3, 1), field(4, 1)];
    found.push({ at, id: d.readConfig(at, 1), length, type, bar, offset: field(8, 4), bytes: field(12, 4) });
    assert.ok(found.length < 48, 'the list ends');
  }
  return found;
}
const COMMON = 1;
const NOTIFY = 2;
const DEVICE = 4;
const PCI = 5;
const of = (d: VirtioPciDevice, type: number): Capability[] => capabilities(d).filter((c) => c.type === type);

describe('identity', () => {
  test('vendor, device, revision and subsystem of each flavour {pci.id.2} {pci.id.3} {pci.id.5} {pci.id.6} {pci.id.7}', () => {
    const ids = FLAVOURS.map((flavour) => {
      const d = make({ flavour });
      return [d.readConfig(0, 2), d.readConfig(2, 2), d.readConfig(8, 1), d.readConfig(0x2e, 2)];
    });
    assert.deepEqual(ids, [
      [0x1af4, 0x1041, 1, 0x1100],
      [0x1af4, 0x1000, 0, 1],
      [0x1af4, 0x1000, 0, 1],
    ]);
  });

  test('a PCI function: header type 0, read-only identity, BARs that size themselves, a list of capabilities inside the space {pci.id.1}', () => {
    for (const flavour of FLAVOURS) {
      for (const onRootPort of flavour === 'modern' ? [false, true] : [false]) {
        const d = make({ flavour, onRootPort });
        const identity = (): number[] =>
          [0, 8, 0x0c, 0x2c].map((at) => d.readConfig(at, 4) & (at === 0x0c ? 0x7f_0000 : -1));
        const before = identity();
        for (const at of [0, 8, 0x0c, 0x2c]) d.writeConfig(at, 4, 0xffff_ffff);
        assert.deepEqual(identity(), before);
        assert.equal(before[2], 0, 'header type 0');
        assert.equal(d.readConfig(6, 2) & 0x10, 0x10, 'there is a list');
        for (const c of capabilities(d)) assert.ok(c.at >= 0x40 && c.at % 4 === 0 && c.at + c.length <= 256);
        for (let bar = 0; bar < 6; bar++) {
          const at = 0x10 + 4 * bar;
          const size = d.barSize(bar);
          if (size === 0) continue;
          d.writeConfig(at, 4, 0xffff_ffff);
          const said = d.readConfig(at, 4);
          const mask = d.barIsIo(bar) ? ~3 : ~0xf;
          assert.equal((~(said & mask) + 1) >>> 0, size, `BAR ${bar}`);
          assert.equal(Math.log2(size) % 1, 0);
        }
        assert.equal(d.readConfig(256, 4), onRootPort ? 0 : 0xffff_ffff);
      }
    }
  });
});

describe('capabilities', () => {
  test('structures are aligned, cap_len counts what follows the capability, windows are longer than what is in them {pci.common.1} {pci.devcfg.1} {pci.caps.8} {pci.caps.9}', () => {
    for (const options of [{}, { pagePerVq: true }, { flavour: 'transitional' as const }]) {
      const d = make(options);
      assert.equal(of(d, COMMON)[0]!.offset % 4, 0);
      assert.equal(of(d, DEVICE)[0]!.offset % 4, 0);
      assert.deepEqual(
        [COMMON, DEVICE, NOTIFY, PCI].map((type) => of(d, type)[0]!.length),
        [16, 16, 20, 20],
      );
      assert.ok(of(d, COMMON)[0]!.bytes > C.queue_reset.offset + 2);
      // what is behind the registers is neither readable nor writable
      const refused = d.refused;
      d.writeBar(4, 0x100, 4, 0xffff_ffff);
      assert.deepEqual([d.readBar(4, 0x100, 4), d.refused], [0, refused + 1]);
    }
  });

  test('of two places for notifications the cheaper one comes first in the list: the port {pci.caps.10}', () => {
    const d = make({ modernPioNotify: true });
    d.writeConfig(0x18, 4, 0xc060);
    assert.deepEqual(
      of(d, NOTIFY).map((c) => [c.bar, c.bytes]),
      [
        [2, 4],
        [4, 0x1000],
      ],
    );
  });

  test('notification windows: aligned, of a multiplier that is a power of two or 0, and room for every queue {pci.notify.2} {pci.notify.3} {pci.notify.4} {pci.notify.5} {pci.notify.6} {pci.notify.7}', () => {
    const queueSizes = [...new Array(1023).fill(256), 64].slice(0, 1023);
    for (const options of [{}, { pagePerVq: true }, { modernPioNotify: true }]) {
      const d = make({ queueSizes, vectors: 4, ...options });
      d.writeConfig(0x18, 4, 0xc060);
      d.writeConfig(4, 2, 0x107);
      for (const c of of(d, NOTIFY)) {
        const multiplier = d.readConfig(c.at + 16, 4);
        assert.equal(c.offset % 4, 0);
        assert.ok(multiplier === 0 || (multiplier % 4 === 0 && Math.log2(multiplier) % 1 === 0), `${multiplier}`);
        let last = 0;
        for (const { index } of d.queues) {
          write(d, C.queue_select, index);
          last = Math.max(last, read(d, C.queue_notify_off) * multiplier);
        }
        assert.ok(c.bytes >= last + 4 && c.offset + c.bytes <= d.barSize(c.bar));
      }
    }
  });

  test('the window behind PCI_CFG reads and writes a BAR, with the length and at the offset that were written {pci.cfgaccess.2} {pci.cfgaccess.3}', () => {
    const d = make();
    const cap = of(d, PCI)[0]!.at;
    const point = (offset: number, length: number): void => {
      d.writeConfig(cap + 4, 1, 4);
      d.writeConfig(cap + 8, 4, offset);
      d.writeConfig(cap + 12, 4, length);
    };
    for (const [length, mac] of [
      [1, 0x52],
      [2, 0x5452],
      [4, 0x1200_5452],
    ] as const) {
      point(0x2000, length);
      assert.equal(d.readConfig(cap + 16, length), mac);
    }
    // a read of the ISR that way clears it, a write of one byte does not reach the next register
    d.isr = 3;
    point(0x1000, 1);
    assert.deepEqual([d.readConfig(cap + 16, 1), d.isr], [3, 0]);
    point(C.device_status.offset, 1);
    d.writeConfig(cap + 16, 4, 0xffff_ff01);
    assert.deepEqual([read(d, C.device_status), read(d, C.queue_select)], [1, 0]);
    point(C.queue_select.offset, 2);
    d.writeConfig(cap + 16, 2, 7);
    assert.equal(read(d, C.queue_select), 7);
    point(C.driver_feature_select.offset, 4);
    d.writeConfig(cap + 16, 4, 1);
    assert.equal(read(d, C.driver_feature_select), 1);
  });
});

describe('common configuration', () => {
  test('any select: offered words and 0 beyond, accepted words as written and 0 beyond {pci.common.3} {pci.common.4} {pci.common.5}', () => {
    const word = fc.nat(0xffff_ffff);
    fc.assert(
      fc.property(word, word, word, (select, lo, hi) => {
        const d = make();
        for (const s of [0, 1, select]) {
          write(d, C.device_feature_select, s);
          assert.equal(read(d, C.device_feature), s === 0 ? OFFERED.lo : s === 1 ? OFFERED.hi : 0);
        }
        for (const [s, value] of [lo, hi].entries()) {
          write(d, C.driver_feature_select, s);
          write(d, C.driver_feature, value);
        }
        for (const s of [0, 1, select]) {
          write(d, C.driver_feature_select, s);
          assert.equal(read(d, C.driver_feature), s === 0 ? lo : s === 1 ? hi : 0);
        }
      }),
    );
  });

  test('both halves of a 64-bit field, one without the other {pci.access.3}', () => {
    const d = make();
    negotiate(d, OFFERED);
    for (const [lo, hi] of [
      [C.queue_desc_lo, C.queue_desc_hi],
      [C.queue_driver_lo, C.queue_driver_hi],
      [C.queue_device_lo, C.queue_device_hi],
    ] as const) {
      write(d, hi, 0x12);
      assert.deepEqual([read(d, lo), read(d, hi)], [0, 0x12]);
      write(d, lo, 0x3456_7000);
      assert.deepEqual([read(d, lo), read(d, hi)], [0x3456_7000, 0x12]);
    }
  });

  test('the generation is another one after a value that was read has changed, and only then {pci.common.6}', () => {
    const d = make();
    const seen = (): [number, number] => [d.readBar(4, 0x2006, 2), read(d, C.config_generation)];
    let [link, generation] = seen();
    for (let i = 0; i < 600; i++) {
      d.setLinkUp(i % 3 !== 0);
      const [nextLink, next] = seen();
      assert.equal(nextLink !== link, next !== generation, `change ${i}`);
      [link, generation] = [nextLink, next];
    }
  });

  test('0 in the status resets: status, queue_enable and queue_reset read 0 {pci.common.7} {pci.common.8} {pci.common.9}', () => {
    const d = make();
    start(d);
    for (const q of [0, 1]) {
      write(d, C.queue_select, q);
      assert.equal(read(d, C.queue_enable), 1);
    }
    write(d, C.device_status, 0);
    assert.equal(read(d, C.device_status), 0);
    for (const q of [0, 1]) {
      write(d, C.queue_select, q);
      assert.deepEqual([read(d, C.queue_enable), read(d, C.queue_reset)], [0, 0]);
    }
  });

  test('queue_reset: 1 while it runs, then 0 with queue_enable, and 0 when the queue is on again; the other queue stays {pci.common.10} {pci.common.11} {pci.common.12} {pci.common.13}', () => {
    const during: number[][] = [];
    const gone: number[] = [];
    const d = make({
      hooks: {
        onQueueReset: (q) => {
          gone.push(q.index);
          during.push([read(d, C.queue_reset), read(d, C.queue_enable)]);
        },
      },
    });
    start(d);
    write(d, C.queue_select, 1);
    write(d, C.queue_reset, 1);
    assert.deepEqual([gone, during], [[1], [[1, 0]]]);
    assert.deepEqual([read(d, C.queue_reset), read(d, C.queue_enable), read(d, C.queue_size)], [0, 0, 256]);
    write(d, C.queue_size, 64);
    enable(d, 1);
    assert.deepEqual([read(d, C.queue_reset), read(d, C.queue_enable), read(d, C.queue_size)], [0, 1, 64]);
    write(d, C.queue_select, 0);
    assert.equal(read(d, C.queue_enable), 1);
    assert.equal(read(d, C.device_status), 0xf);
  });

  test('queue_size: 0 for a queue that is not there, and without RING_PACKED a power of two, whatever is written {pci.common.14} {pci.common.15}', () => {
    fc.assert(
      fc.property(fc.boolean(), fc.array(fc.nat(0xffff), { maxLength: 8 }), (packed, writes) => {
        const offered = orFeatures(OFFERED, featuresOf(VIRTIO_F_RING_PACKED));
        const d = make({ offered, queueSizes: [1000, 1000] });
        negotiate(d, packed ? offered : OFFERED);
        for (const size of [-1, ...writes]) {
          if (size >= 0) write(d, C.queue_size, size);
          const shown = read(d, C.queue_size);
          assert.ok(shown > 0 && shown <= 1000);
          if (!packed) assert.equal(Math.log2(shown) % 1, 0);
        }
        for (const queue of [2, 3, 0xffff]) {
          write(d, C.queue_select, queue);
          assert.equal(read(d, C.queue_size), 0);
        }
      }),
    );
  });
});

describe('ISR', () => {
  const live = (): { d: VirtioPciDevice; levels: boolean[] } => {
    const levels: boolean[] = [];
    const d = make({ vectors: 0, hooks: { onIntx: (level) => levels.push(level) } });
    start(d);
    return { d, levels };
  };
  test('a queue and the configuration have a bit each, the pin and the status register follow, a read clears {pci.isr.2} {pci.isr.3} {pci.isr.4} {pci.isr.5}', () => {
    const { d, levels } = live();
    d.notifyQueue(1);
    assert.deepEqual([d.isr & 1, d.readConfig(6, 2) & 8, levels], [1, 8, [true]]);
    assert.deepEqual([d.readBar(4, 0x1000, 1), d.readBar(4, 0x1000, 1), d.readConfig(6, 2) & 8], [1, 0, 0]);
    assert.deepEqual(levels, [true, false]);
    d.setLinkUp(false);
    assert.deepEqual([d.isr & 2, d.readConfig(6, 2) & 8, levels], [2, 8, [true, false, true]]);
    assert.equal(d.readBar(4, 0x1000, 1) & 2, 2);
    assert.deepEqual([d.isr, d.readConfig(6, 2) & 8, levels], [0, 0, [true, false, true, false]]);
  });
  test('with MSI-X the configuration bit is set before the message goes out {pci.isr.2}', () => {
    const seen: number[] = [];
    const d = make({ hooks: { onMsi: () => seen.push(d.isr & 2) } });
    negotiate(d, OFFERED);
    openVectors(d);
    write(d, C.config_msix_vector, 0);
    write(d, C.device_status, 0xf);
    d.setLinkUp(false);
    assert.deepEqual(seen, [2]);
  });
});

describe('vectors', () => {
  test('2 to 2048 of them, the table says how many, by default one for each queue, one for the configuration and one to spare {pci.msix.1} {pci.msix.2} {pci.msix.3}', () => {
    const size = (d: VirtioPciDevice): number =>
      (d.readConfig(capabilities(d).find((c) => c.id === 0x11)!.at + 2, 2) & 0x7ff) + 1;
    for (const vectors of [2, 3, 64, 65, 2048]) {
      const d = make({ vectors });
      assert.equal(size(d), vectors);
      openVectors(d);
      write(d, C.config_msix_vector, vectors - 1);
      assert.equal(read(d, C.config_msix_vector), vectors - 1);
      assert.deepEqual(d.msixMessage(vectors - 1), { address: 0xfee0_0000, data: vectors - 1 });
      write(d, C.config_msix_vector, vectors);
      assert.equal(read(d, C.config_msix_vector), 0xffff);
    }
    for (const pairs of [1, 4]) {
      assert.equal(defaultVectors(pairs), 2 * pairs + 2);
      assert.equal(size(make({ queueSizes: new Array(2 * pairs).fill(256) })), 2 * pairs + 2);
    }
  });

  test('any event on any vector, and off again; what is read back is the truth, and no valid mapping fails {pci.msix.4} {pci.msix.5} {pci.msix.6} {pci.msix.8} {pci.msix.9}', () => {
    const vector = fc.oneof(fc.nat(5), fc.constantFrom(6, 0x7ff, 0xfffe, 0xffff));
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom(-1, 0, 1), vector), { maxLength: 20 }), (mappings) => {
        const sent: number[] = [];
        const d = make({ vectors: 6, hooks: { onMsi: (v) => sent.push(v) } });
        start(d);
        openVectors(d);
        const now = new Map<number, number>([-1, 0, 1].map((event) => [event, 0xffff]));
        for (const [event, v] of mappings) {
          if (event >= 0) write(d, C.queue_select, event);
          const field = event < 0 ? C.config_msix_vector : C.queue_msix_vector;
          write(d, field, v);
          const shown = read(d, field);
          assert.equal(shown, v < 6 ? v : 0xffff);
          now.set(event, shown);
        }
        const message = (v: number): MsiMessage | null => (v === 0xffff ? null : { address: 0xfee0_0000, data: v });
        for (const q of [0, 1]) assert.deepEqual(d.notifyQueue(q), message(now.get(q)!));
        d.setLinkUp(false);
        assert.deepEqual(sent, now.get(-1) === 0xffff ? [] : [now.get(-1)]);
      }),
    );
  });

  test('without a vector there is no message while MSI-X is on, for a queue or for the configuration {pci.msix.15} {pci.msix.16}', () => {
    const sent: number[] = [];
    const levels: boolean[] = [];
    const d = make({ hooks: { onMsi: (v) => sent.push(v), onIntx: (level) => levels.push(level) } });
    start(d);
    openVectors(d);
    assert.equal(d.notifyQueue(0), null);
    d.setLinkUp(false);
    assert.deepEqual([sent, levels], [[], []]);
    for (let v = 0; v < 4; v++) assert.equal(d.isPending(v), false);
  });

  test('a reset unmaps every event {pci.msix.7}', () => {
    const d = make();
    start(d);
    write(d, C.config_msix_vector, 0);
    for (const q of [0, 1]) {
      write(d, C.queue_select, q);
      write(d, C.queue_msix_vector, 1 + q);
      assert.equal(read(d, C.queue_msix_vector), 1 + q);
    }
    write(d, C.device_status, 0);
    assert.equal(read(d, C.config_msix_vector), 0xffff);
    for (const q of [0, 1]) {
      write(d, C.queue_select, q);
      assert.equal(read(d, C.queue_msix_vector), 0xffff);
    }
  });
});
