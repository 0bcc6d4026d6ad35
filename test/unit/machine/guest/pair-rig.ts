/** A queue pair of a guest's NIC and the back-end's hands on it, over the same memory, without a world. */

import { NetQueuePair } from '../../../../src/machine/backend/net-queue-pair.ts';
import { BufferPool } from '../../../../src/machine/guest/buffer-pool.ts';
import { GuestNic } from '../../../../src/machine/guest/guest-nic.ts';
import type { GuestQueuePair } from '../../../../src/machine/guest/guest-queue-pair.ts';
import { allocateRing } from '../../../../src/machine/guest/probe/ring-memory.ts';
import { headerBytesOf, type RxLayout, rxLayoutOf } from '../../../../src/machine/guest/rx-buffers.ts';
import { TrafficSource } from '../../../../src/machine/guest/traffic/source.ts';
import { AddressSpace } from '../../../../src/machine/memory/address-space.ts';
import { MAX_GSO_BYTES } from '../../../../src/machine/memory/sizes.ts';
import { writeHeader } from '../../../../src/machine/packet/net-header.ts';
import { SLOT_BYTES } from '../../../../src/machine/packet/pool.ts';
import {
  type Features,
  hasFeature,
  VIRTIO_F_RING_PACKED,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../../../src/machine/virtio/features.ts';
import { makeDeviceQueue, makeDriverQueue } from '../../../../src/machine/virtio/queue/ring-queues.ts';
import { Bare } from '../packet/bare-services.ts';

const RAM_BYTES = 4 << 20;
/** Entries of an indirect table: 19 for a big receive buffer. */
const TABLE_ENTRIES = 20;
/** flags, gso_type, hdr_len, gso_size, csum_start, csum_offset. */
export type HeaderFields = readonly [number, number, number, number, number, number];
export const NO_OFFLOAD: HeaderFields = [0, 0, 0, 0, 0, 0];

/** Sends what it is given, one frame after the other. */
class ListSource extends TrafficSource {
  readonly list: { readonly bytes: Uint8Array; readonly wish: HeaderFields }[] = [];
  private readonly u8: Uint8Array;

  constructor(nic: GuestNic, u8: Uint8Array) {
    super(nic, 1, 0, false);
    this.u8 = u8;
  }
  ready(): number {
    return this.list.length;
  }
  nextLength(): number {
    return this.list[0]!.bytes.length;
  }
  fill(at: number): number {
    const { bytes, wish } = this.list.shift()!;
    this.u8.set(bytes, at);
    this.wish.set(wish);
    return bytes.length;
  }
  readonly done = false;
  cancel(): void {}
}

export class PairRig {
  readonly bare = new Bare(256, {}, 16, RAM_BYTES + MAX_GSO_BYTES);
  readonly nic: GuestNic;
  readonly driver: GuestQueuePair;
  readonly device: NetQueuePair;
  readonly headerBytes: number;
  readonly layout: RxLayout;
  /** Interrupts raised, by queue. */
  readonly interrupts = { rx: 0, tx: 0 };
  private readonly source: ListSource;
  private next = 0x1000;

  /** `mtu`: what the device said. */
  constructor(features: Features, mtu: number | null = null, size = 64) {
    const { services, scratch } = this.bare;
    const { arena } = services;
    const places = { rx: 2, tx: 3 };
    const identity = { name: 'a/net0', mac: [2, 0, 0, 0, 0, 2], addresses: [] };
    this.nic = new GuestNic(services, identity, { driver: 1, queues: [places] }, scratch);
    this.driver = this.nic.pairs[0]!;
    this.device = new NetQueuePair(services, 'a/net0', { backend: 4, driver: 1, ...places });
    this.source = new ListSource(this.nic, arena.u8);
    this.headerBytes = headerBytesOf(features);
    this.layout = rxLayoutOf(features, mtu, size);

    const space = new AddressSpace();
    space.map(0, RAM_BYTES, scratch);
    const packed = hasFeature(features, VIRTIO_F_RING_PACKED);
    const indirect = hasFeature(features, VIRTIO_RING_F_INDIRECT_DESC);
    const queue = () => {
      const ring = allocateRing({ alloc: (bytes, align) => this.alloc(bytes, align) }, size, packed, 4096)!;
      const frameOf = new Int32Array(size);
      const common = { packed, size, frameOf, eventIdx: hasFeature(features, VIRTIO_RING_F_EVENT_IDX) };
      const tables = indirect ? this.alloc(size * TABLE_ENTRIES * 16, 16) : 0;
      return {
        driver: makeDriverQueue(arena, {
          ...common,
          ...ring,
          ram: scratch,
          indirectGpa: tables,
          indirectEntries: TABLE_ENTRIES,
        }),
        device: makeDeviceQueue(arena, arena.code.copy, {
          ...common,
          ...{ desc: scratch + ring.descGpa, avail: scratch + ring.driverGpa, used: scratch + ring.deviceGpa },
          ...{ mrgRxbuf: hasFeature(features, VIRTIO_NET_F_MRG_RXBUF), indirect, space },
          headerBytes: headerBytesOf(features),
        }),
      };
    };
    const [rx, tx] = [queue(), queue()];
    const { room } = this.layout;
    const buffers = Math.min(size, Math.floor((3 << 20) / room));
    const gso = this.alloc(2 * (MAX_GSO_BYTES + 4096), 4096);
    this.driver.bringUp({
      rx: rx.driver,
      tx: tx.driver,
      ...{ rxIrq: 0, txIrq: 1, doorbells: { rx: { address: 0, bytes: 2 }, tx: { address: 0, bytes: 2 } } },
      headerBytes: this.headerBytes,
      rxBuffers: this.layout,
      txSlots: this.alloc(size * SLOT_BYTES, 4096),
      rxPool: new BufferPool(this.alloc(buffers * room, 4096), buffers, room),
      txPool: null,
      gsoPool: new BufferPool(gso, 2, MAX_GSO_BYTES + 4096),
      joined: scratch + RAM_BYTES,
    });
    this.driver.gsoRange(gso, gso + 2 * (MAX_GSO_BYTES + 4096));
    this.driver.attach(1);
    const route = (which: 'rx' | 'tx') => ({ trigger: () => void this.interrupts[which]++ });
    this.device.negotiated(features);
    this.device.connect('rx', rx.device, route('rx'));
    this.device.connect('tx', tx.device, route('tx'));
    this.device.attach(2);
  }
  /** Guest memory; its address. */
  private alloc(bytes: number, align: number): number {
    const at = Math.ceil(this.next / align) * align;
    this.next = at + bytes;
    if (this.next > RAM_BYTES) throw new Error('the rig has 4 MiB of guest memory');
    return at;
  }

  /** The driver sends a frame with this header; returns the guest-physical bytes of header and frame as the device finds them. */
  send(bytes: Uint8Array, wish: HeaderFields = NO_OFFLOAD): void {
    this.source.list.push({ bytes, wish });
    this.driver.put(this.source, bytes.length);
    this.driver.tx.publish();
  }
  /** The device takes one frame out; its packet, or -1. The chain goes back. */
  take(): number {
    const packet = this.device.popTx(this.device.tx.peekBytes(0));
    if (packet >= 0) this.device.usedTx();
    this.device.publishTx(1);
    return packet;
  }
  /** A host packet with this header is put into the guest; false: no buffer. */
  deliver(bytes: Uint8Array, header: HeaderFields = NO_OFFLOAD): boolean {
    const { services } = this.bare;
    const packet = this.bare.packet(bytes);
    writeHeader(services.arena.u32, services.pool.slot(packet), ...header);
    if (!this.device.pushRx(packet, 0)) {
      services.pool.release(packet);
      return false;
    }
    this.device.publishRx(1);
    return true;
  }
  /** The driver takes one frame in: what it makes of it, or null where there is nothing that can be used. */
  receive(): { readonly bytes: Uint8Array; readonly header: readonly number[] } | null {
    const { nic, driver } = this;
    if (driver.receive() === 0) return null;
    const bytes = this.bare.services.arena.u8.slice(nic.frameAt, nic.frameAt + nic.frameLength);
    const header = [nic.rxFlags, nic.rxGsoType, nic.rxGsoSize, nic.rxCsumStart, nic.rxCsumOffset];
    driver.releaseReceived();
    return { bytes, header };
  }
  /** The descriptors of the buffers that the driver has posted, as the device will read them: lengths by chain. */
  postedChains(): number[][] {
    const chains: number[][] = [];
    const { rx } = this.device;
    const chain = { head: 0, readable: [], writable: [] as { at: number; length: number }[] };
    while (rx.takeChain(chain) === 1) chains.push(chain.writable.map((s) => s.length));
    return chains;
  }
}
