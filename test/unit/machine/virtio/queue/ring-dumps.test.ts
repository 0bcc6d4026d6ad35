/**
 * Rings that QEMU and a Linux guest left in memory (test/vectors/qemu-ring-dumps.json): our decoder reads them as the
 * recording did, and our two sides, given the same posts, uses and buffers, leave the same bytes.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { AddressSpace } from '../../../../../src/machine/memory/address-space.ts';
import { Arena } from '../../../../../src/machine/memory/arena.ts';
import type { Chain, DeviceQueue } from '../../../../../src/machine/virtio/queue/device-queue.ts';
import type { DriverQueue } from '../../../../../src/machine/virtio/queue/driver-queue.ts';
import { makeDeviceQueue, makeDriverQueue } from '../../../../../src/machine/virtio/queue/ring-queues.ts';
import { describeRing, ringPlace, ringPositions } from '../../../../../src/machine/virtio/queue/ring-view.ts';
import { VIRTQ_DESC_F_WRITE } from '../../../../../src/machine/wire/virtio-ring.ts';

interface Dump {
  readonly options: 'packed' | 'split' | 'split_event_idx_off_mrg_off';
  readonly moment: string;
  readonly queue: number;
  readonly size: number;
  readonly desc: string;
  readonly avail?: string;
  readonly used?: string;
  readonly driver?: string;
  readonly device?: string;
  /** The first entries of an indirect table. */
  readonly table?: string;
  readonly decoded: Readonly<Record<string, unknown>>;
  readonly status: { readonly 'last-avail-idx': number; readonly 'used-idx': number };
}
const { dumps } = JSON.parse(
  readFileSync(new URL('../../../../vectors/qemu-ring-dumps.json', import.meta.url), 'utf8'),
) as { readonly dumps: readonly Dump[] };
const dumpOf = (options: string, moment: string, queue: number): Dump => {
  const dump = dumps.find((d) => d.options === options && d.moment === moment && d.queue === queue);
  assert.ok(dump, `${options} ${moment} ${queue}`);
  return dump;
};

const DESC = 0x1000;
const AVAIL = 0x2000;
const USED = 0x2240;
const TABLES = 0x3000;
const TABLE_ENTRIES = 19;
const TABLE_BYTES = 16 * TABLE_ENTRIES;
/** Buffers lie where the guest had them; nothing is behind those addresses, because requests are not copied. */
const GUEST_BYTES = 1 << 27;

class Replay {
  readonly arena = new Arena(3 * 65536);
  readonly device: DeviceQueue;
  readonly driver: DriverQueue;
  readonly packed: boolean;
  private readonly chain: Chain = { head: 0, readable: [], writable: [] };

  constructor(dump: Dump) {
    this.packed = dump.options === 'packed';
    const eventIdx = dump.options !== 'split_event_idx_off_mrg_off';
    const space = new AddressSpace();
    space.map(0, GUEST_BYTES, 0);
    const common = { packed: this.packed, size: dump.size, eventIdx, frameOf: new Int32Array(dump.size) };
    this.device = makeDeviceQueue(this.arena, this.arena.code.copy, {
      ...common,
      ...{ desc: DESC, avail: AVAIL, used: USED, mrgRxbuf: eventIdx, indirect: true, space },
    });
    this.driver = makeDriverQueue(this.arena, {
      ...common,
      ...{
        descGpa: DESC,
        driverGpa: AVAIL,
        deviceGpa: USED,
        ram: 0,
        indirectGpa: TABLES,
        indirectEntries: TABLE_ENTRIES,
      },
    });
  }

  /** The device takes the next chain and gives it back; the driver takes it back. */
  use(written: number): number {
    assert.equal(this.device.takeChain(this.chain), 1);
    this.device.usedChain(this.chain.head, written);
    assert.equal(this.driver.usedReady(), 1);
    return this.driver.takeUsed();
  }
  bytes(at: number, length: number): Buffer {
    return Buffer.from(this.arena.u8.slice(at, at + length));
  }
}
/** The recorded bytes of an area, zeros at the end and all. */
const recorded = (hex: string, length: number): Buffer => Buffer.concat([Buffer.from(hex, 'hex')], length);
const descOf = (dump: Dump): Buffer => recorded(dump.desc, 16 * dump.size);

describe('dumps of QEMU and Linux, decoded', () => {
  test.each(dumps.map((d) => [`${d.options}, ${d.moment}, queue ${d.queue}`, d] as const))('%s', (_, dump) => {
    const { size } = dump;
    const replay = new Replay(dump);
    const { u8, view } = replay.arena;
    u8.set(descOf(dump), DESC);
    u8.set(Buffer.from(dump.avail ?? dump.driver!, 'hex'), AVAIL);
    u8.set(Buffer.from(dump.used ?? dump.device!, 'hex'), USED);
    const place = { ...ringPlace(replay.device), eventIdx: true };
    assert.deepEqual([place.size, place.desc, place.avail, place.used], [size, DESC, AVAIL, USED]);
    const seen = describeRing(view, place, ringPositions(replay.device));
    assert.equal(seen.desc.map((d) => d.raw).join(''), descOf(dump).toString('hex'));
    const bare = (names: readonly string[]): string[] => names.map((n) => n.replace('VIRTQ_DESC_F_', ''));
    const desc = seen.desc.slice(0, 4).map(({ raw: _raw, flags, ...d }) => ({ ...d, flags: bare(flags) }));
    assert.deepEqual(desc, dump.decoded['desc']);
    if (seen.format === 'packed') {
      const event = ({ off, wrap, flags }: typeof seen.driverEvent): unknown => ({
        off,
        wrap,
        flags: flags.replace('RING_EVENT_FLAGS_', ''),
      });
      assert.deepEqual(event(seen.driverEvent), dump.decoded['driver']);
      assert.deepEqual(event(seen.deviceEvent), dump.decoded['device']);
      assert.deepEqual([seen.driverEvent.raw, seen.deviceEvent.raw], [dump.driver, dump.device]);
      return;
    }
    const { avail, used } = seen;
    assert.deepEqual(
      { flags: avail.flags, idx: avail.idx, ring_first_8: avail.ring.slice(0, 8), used_event: avail.usedEvent },
      dump.decoded['avail'],
    );
    assert.deepEqual(
      { flags: used.flags, idx: used.idx, ring_first_8: used.ring.slice(0, 8), avail_event: used.availEvent },
      dump.decoded['used'],
    );
    assert.equal(used.idx, dump.status['used-idx']);
    assert.equal(avail.raw, recorded(dump.avail!, 6 + 2 * size).toString('hex'));
    assert.equal(used.raw, recorded(dump.used!, 6 + 8 * size).toString('hex'));
  });
});

describe('the same posts leave the same bytes', () => {
  test('packed, receive: every byte of the ring and both event structures; used descriptors but for WRITE, which QEMU leaves out', () => {
    const filled = dumpOf('packed', 'after_link_up', 0);
    const replay = new Replay(filled);
    const { driver, device, arena } = replay;
    const first = descOf(filled);
    for (let i = 0; i < filled.size; i++)
      driver.add(first.readUInt32LE(16 * i), first.readUInt32LE(16 * i + 8), VIRTQ_DESC_F_WRITE, 0);
    driver.publish();
    driver.disableInterrupts();
    driver.enableInterrupts();
    assert.deepEqual(replay.bytes(DESC, 16 * filled.size), first);
    assert.equal(replay.bytes(AVAIL, 4).toString('hex'), filled.driver);
    assert.equal(replay.bytes(USED, 4).toString('hex'), filled.device);

    const pinged = dumpOf('packed', 'after_ping1', 0);
    const second = descOf(pinged);
    device.disableKicks();
    for (let i = 0; i < 2; i++) {
      driver.disableInterrupts();
      assert.equal(replay.use(second.readUInt32LE(16 * i + 8)), i);
      driver.enableInterrupts();
      const flags = arena.view.getUint16(DESC + 16 * i + 14, true);
      assert.equal(flags, second.readUInt16LE(16 * i + 14) | VIRTQ_DESC_F_WRITE);
      second.writeUInt16LE(flags, 16 * i + 14);
    }
    assert.deepEqual(replay.bytes(DESC, 16 * pinged.size), second);
    assert.equal(replay.bytes(AVAIL, 4).toString('hex'), pinged.driver);
    assert.equal(replay.bytes(USED, 4).toString('hex'), pinged.device);
    assert.equal(device.last_avail_idx, pinged.status['last-avail-idx']);
  });

  test('packed, transmit: every byte', () => {
    for (const moment of ['after_ping1', 'after_13_tx_frames']) {
      const dump = dumpOf('packed', moment, 1);
      const replay = new Replay(dump);
      const { driver, device } = replay;
      const wanted = descOf(dump);
      const n = dump.status['last-avail-idx'];
      for (let i = 0; i < n; i++) {
        driver.add(wanted.readUInt32LE(16 * i), 64, 0, 0);
        driver.publish();
        assert.equal(replay.use(0), 0);
      }
      driver.disableInterrupts();
      driver.enableInterrupts();
      device.enableKicks(device.last_avail_idx);
      assert.deepEqual(replay.bytes(DESC, 16 * dump.size), wanted);
      assert.equal(replay.bytes(AVAIL, 4).toString('hex'), dump.driver);
      assert.equal(replay.bytes(USED, 4).toString('hex'), dump.device);
    }
  });

  test('packed, control: six commands through indirect tables; addresses and WRITE aside', () => {
    const dump = dumpOf('packed', 'after_link_up', 2);
    const replay = new Replay(dump);
    const { driver } = replay;
    driver.disableInterrupts();
    const lengths = Int32Array.of(2, 4, 6, 1);
    for (let i = 0; i < 6; i++) {
      driver.addChain(new Int32Array(4).fill(TABLES), lengths, 3, 1, 0);
      driver.publish();
      assert.equal(replay.use(1), 0);
    }
    const wanted = descOf(dump);
    for (let i = 0; i < 6; i++) {
      wanted.writeUInt32LE(TABLES, 16 * i);
      wanted.writeUInt16LE(wanted.readUInt16LE(16 * i + 14) | VIRTQ_DESC_F_WRITE, 16 * i + 14);
    }
    assert.deepEqual(replay.bytes(DESC, 16 * dump.size), wanted);
    assert.equal(replay.bytes(AVAIL, 4).toString('hex'), dump.driver);
    assert.equal(replay.bytes(USED, 4).toString('hex'), dump.device);
  });

  test('split, receive: every byte of all three areas', () => {
    const filled = dumpOf('split', 'after_link_up', 0);
    const replay = new Replay(filled);
    const { driver, device } = replay;
    const first = descOf(filled);
    for (let i = 0; i < filled.size; i++)
      driver.add(first.readUInt32LE(16 * i), first.readUInt32LE(16 * i + 8), VIRTQ_DESC_F_WRITE, 0);
    driver.publish();
    driver.enableInterrupts();
    const same = (dump: Dump): void => {
      assert.deepEqual(replay.bytes(DESC, 16 * dump.size), descOf(dump));
      assert.deepEqual(replay.bytes(AVAIL, 6 + 2 * dump.size), recorded(dump.avail!, 6 + 2 * dump.size));
      assert.deepEqual(replay.bytes(USED, 6 + 8 * dump.size), recorded(dump.used!, 6 + 8 * dump.size));
    };
    same(filled);
    const pinged = dumpOf('split', 'after_ping1', 0);
    device.disableKicks();
    const used = recorded(pinged.used!, 6 + 8 * pinged.size);
    for (let i = 0; i < 2; i++) assert.equal(replay.use(used.readUInt32LE(8 + 8 * i)), i);
    driver.enableInterrupts();
    same(pinged);
  });

  test('split without mergeable buffers: chains of 19 in indirect tables, as their entries were recorded', () => {
    const dump = dumpOf('split_event_idx_off_mrg_off', 'after_link_up', 0);
    const table = Buffer.from(dumpOf('split_event_idx_off_mrg_off', 'after_ping1', 0).table!, 'hex');
    const replay = new Replay(dump);
    const { driver, device } = replay;
    // a 12-byte header, the rest of its page, and 17 pages (linux drivers/net/virtio_net.c, add_recvbuf_big())
    const gpas = new Int32Array(TABLE_ENTRIES);
    const lengths = Int32Array.from(gpas, (_, i) => (i === 0 ? 12 : i === 1 ? 4096 - 32 : 4096));
    const wanted = descOf(dump);
    for (let i = 0; i < dump.size; i++) {
      for (let at = 0; at < table.length / 16; at++) gpas[at] = table.readUInt32LE(16 * at);
      assert.equal(driver.addChain(gpas, lengths, 0, TABLE_ENTRIES, 0), i);
      wanted.writeUInt32LE(TABLES + i * TABLE_BYTES, 16 * i);
    }
    driver.publish();
    device.enableKicks(0);
    assert.deepEqual(replay.bytes(DESC, 16 * dump.size), wanted);
    assert.deepEqual(replay.bytes(AVAIL, 6 + 2 * dump.size), recorded(dump.avail!, 6 + 2 * dump.size));
    assert.deepEqual(replay.bytes(TABLES + TABLE_BYTES, table.length), table);
  });

  test.each(['split', 'split_event_idx_off_mrg_off'] as const)(
    '%s, transmit: every byte, heads from the last-in first-out list',
    (options) => {
      for (const moment of ['after_ping1', 'after_13_tx_frames']) {
        const dump = dumpOf(options, moment, 1);
        const replay = new Replay(dump);
        const { driver, device } = replay;
        const wanted = descOf(dump);
        const avail = recorded(dump.avail!, 6 + 2 * dump.size);
        const n = dump.status['last-avail-idx'];
        let out = 0;
        for (let i = 0; i < n; i++) {
          const head = avail.readUInt16LE(4 + 2 * i);
          // what the device had given back by then shows in the head that the driver took next
          while (driver.nextHead !== head && out > 0) {
            replay.use(0);
            out--;
          }
          assert.equal(driver.nextHead, head, `post ${i}`);
          driver.add(wanted.readUInt32LE(16 * head), wanted.readUInt32LE(16 * head + 8), 0, 0);
          driver.publish();
          out++;
        }
        for (; out > 0; out--) replay.use(0);
        driver.enableInterrupts();
        device.enableKicks(device.last_avail_idx);
        assert.deepEqual(replay.bytes(DESC, 16 * dump.size), wanted);
        // without VIRTIO_RING_F_EVENT_IDX Linux keeps used_event up to date all the same; nobody reads it
        if (options !== 'split') avail.writeUInt16LE(0, 4 + 2 * dump.size);
        assert.deepEqual(replay.bytes(AVAIL, 6 + 2 * dump.size), avail);
        assert.deepEqual(replay.bytes(USED, 6 + 8 * dump.size), recorded(dump.used!, 6 + 8 * dump.size));
      }
    },
  );
});
