/**
 * A driver that is the test, in process: what a client of the API does with a NIC whose driver is `none`, in memory, registers
 * and doorbells (virtio 1.2 §2.7, §2.8, §4.1.4.3). It may do anything wrong.
 */
import type { RegisterAccess } from '../../../src/lab/device-access.ts';
import { deviceOf, findNic } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import { type Backend, makeWorld, runOut } from './world-driver.ts';

export const RAM = 0x10_0000;
export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;
export const AVAIL = 0x80;
export const HEADER = 12;
/** Rings of eight entries; buffers behind them. */
export const SIZE = 8;
export const RINGS = [0x1_0000, 0x2_0000, 0x3_0000] as const;
/** VIRTIO_NET_F_CTRL_VQ. */
export const CTRL_VQ = 2 ** 17;
export const TX_BUFFER = 0x5_0000;
export const RX_BUFFER = 0x4_0000;

export interface Descriptor {
  readonly addr: number | bigint;
  readonly len: number;
  readonly flags?: number;
  /** Split: next; packed: buffer id. */
  readonly next?: number;
}

/** Guest a is bare, guest b has a driver of ours; on each side of a lies a guest that nobody writes to. */
export function bareWorld(backend: Backend, nic: object = {}): World {
  const datapath = backend === 'vhost-user' ? 'netdev' : 'system';
  const quiet = (name: string): object => ({ name, memory: '1MiB', nics: [] });
  return makeWorld({
    debug: true,
    hosts: [
      {
        bridges: [{ name: 'br0', datapath }],
        guests: [
          quiet('before'),
          { name: 'a', memory: '1MiB', hugepages: '4KiB', nics: [{ name: 'net0', driver: 'none', backend, ...nic }] },
          quiet('after'),
          { name: 'b', nics: [{ name: 'net0', backend, addresses: ['10.0.0.2/24'], mac: '52:54:00:00:00:02' }] },
        ],
      },
    ],
  });
}

export class BareDriver {
  readonly world: World;
  readonly packed: boolean;
  /** Guest RAM as the driver wrote it: what differs is the device's doing. */
  readonly written: Uint8Array;
  private readonly available = [0, 0, 0];

  constructor(world: World, packed = false) {
    this.world = world;
    this.packed = packed;
    this.written = this.ram('a').slice();
  }
  get nic() {
    return findNic(this.world.machine, 'a', 'net0');
  }
  get device() {
    return deviceOf(this.nic);
  }

  // ---- registers and memory -----------------------------------------------------------------------------------------
  access(region: RegisterAccess['region'], offset: number, width: 1 | 2 | 4, value: number | null): number {
    return this.world.registers(this.nic, { region, offset, width, value });
  }
  common(offset: number, width: 1 | 2 | 4, value: number): void {
    this.access('common', offset, width, value);
  }
  status(value: number): void {
    this.common(20, 1, value);
  }
  write(address: number, bytes: Uint8Array): void {
    this.world.writeMemory('a', address, bytes);
    this.written.set(bytes, address);
  }
  write16(address: number, ...words: number[]): void {
    this.write(address, new Uint8Array(Uint16Array.from(words).buffer));
  }
  /** Guest RAM as it is, by guest. */
  ram(guest: string): Uint8Array {
    const { vm } = this.world.machine.guests.find((g) => g.name === guest)!;
    return this.world.machine.arena.u8.subarray(vm.ram, vm.ram + vm.ramBytes);
  }
  read16(address: number): number {
    const ram = this.ram('a');
    return ram[address]! | (ram[address + 1]! << 8);
  }
  read32(address: number): number {
    return (this.read16(address) | (this.read16(address + 2) << 16)) >>> 0;
  }

  // ---- set-up -------------------------------------------------------------------------------------------------------
  /** virtio 1.2 §3.1.1, steps 1 to 6. */
  negotiate(low = 0, high = 1): void {
    this.access('pci', 4, 2, 7);
    for (const status of [0, 1, 3]) this.status(status);
    for (const [select, bits] of [
      [0, low],
      [1, high | (this.packed ? 4 : 0)],
    ] as const) {
      this.common(8, 4, select);
      this.common(12, 4, bits);
    }
    this.status(11);
  }
  /** Where a queue's areas are: split 16 bytes for each descriptor, then avail, then used on the next multiple of four. */
  areas(queue: number): { desc: number; driver: number; device: number } {
    const desc = RINGS[queue]!;
    const driver = desc + 16 * SIZE;
    return { desc, driver, device: this.packed ? driver + 4 : driver + ((6 + 2 * SIZE + 3) & ~3) };
  }
  place(queue: number, areas: { desc: number; driver: number; device: number }, size = SIZE): void {
    this.common(22, 2, queue);
    this.common(24, 2, size);
    for (const [offset, at] of [
      [32, areas.desc],
      [40, areas.driver],
      [48, areas.device],
    ] as const) {
      this.common(offset, 4, at % 2 ** 32);
      this.common(offset + 4, 4, Math.floor(at / 2 ** 32));
    }
    this.common(28, 2, 1);
  }
  /** Everything, up to DRIVER_OK. */
  bringUp(low = 0): void {
    this.negotiate(low);
    const queues = (low & CTRL_VQ) === 0 ? [0, 1] : [0, 1, 2];
    for (const queue of queues) this.place(queue, this.areas(queue));
    this.status(15);
    this.available.fill(0);
  }

  // ---- rings --------------------------------------------------------------------------------------------------------
  descriptor(table: number, i: number, { addr, len, flags = 0, next = 0 }: Descriptor): void {
    const bytes = new DataView(new ArrayBuffer(16));
    bytes.setBigUint64(0, BigInt(addr), true);
    bytes.setUint32(8, len, true);
    // virtio 1.2 §2.8.13: a packed descriptor has id and flags in the other order, and says that it is available
    bytes.setUint16(12, this.packed ? next : flags, true);
    bytes.setUint16(14, this.packed ? flags | AVAIL : next, true);
    this.write(table + 16 * i, new Uint8Array(bytes.buffer));
  }
  /** Makes `chain` available as the next one: from slot 0 on in the table, or in the ring. */
  post(queue: number, chain: readonly Descriptor[], head = 0): void {
    const { desc, driver } = this.areas(queue);
    const first = this.packed ? this.available[queue]! : 0;
    for (const [i, d] of chain.entries()) this.descriptor(desc, first + i, d);
    if (this.packed) this.available[queue] = first + chain.length;
    else {
      this.write16(driver + 4 + 2 * (this.available[queue]! % SIZE), head);
      this.write16(driver + 2, ++this.available[queue]!);
    }
  }
  /** Rings the doorbell, and lets the world do what comes of it. */
  kick(queue: number): void {
    this.world.notify(this.nic, String(queue), null);
    runOut(this.world);
  }
  /** Posts and rings. */
  give(queue: number, chain: readonly Descriptor[], head = 0): void {
    this.post(queue, chain, head);
    this.kick(queue);
  }
  usedIdx(queue: number): number {
    return this.read16(this.areas(queue).device + 2);
  }
  usedEntry(queue: number, i: number): { id: number; len: number } {
    const at = this.areas(queue).device + 4 + 8 * (i % SIZE);
    return { id: this.read32(at), len: this.read32(at + 4) };
  }
  /** An ARP request for guest b, with a header of zeros, at TX_BUFFER; its descriptor. */
  arp(): Descriptor {
    const frame = new Uint8Array(60);
    frame.fill(0xff, 0, 6);
    frame.set([0x52, 0x54, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0, 0, 1, 10, 0, 0, 1], 6);
    frame.set([10, 0, 0, 2], 38);
    this.write(TX_BUFFER, new Uint8Array(HEADER));
    this.write(TX_BUFFER + HEADER, frame);
    return { addr: TX_BUFFER, len: HEADER + frame.length };
  }
  /** A frame for guest a comes in at the bridge. */
  inject(id: string): void {
    const bytes = new Uint8Array(60);
    bytes.set([0x52, 0x54, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
    const lengths = Uint32Array.of(bytes.length);
    this.world.startFrames({ id, kind: 'frames', at: 'br0/b.net0', bytes, lengths, times: null });
    runOut(this.world);
  }
}
