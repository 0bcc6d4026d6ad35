/**
 * A virtio driver that consists of HTTP requests: what a client does with a NIC whose driver is `none`. It knows split rings
 * and the registers of virtio over PCI (virtio 1.2 §2.7, §4.1.4.3), and takes nothing from the sources under test.
 */
import assert from 'node:assert/strict';
import type { TestServer } from './client.ts';

const OCTETS = { 'content-type': 'application/octet-stream' };

/** Offsets in struct virtio_pci_common_cfg. */
export const COMMON = {
  device_feature_select: [0, 4],
  device_feature: [4, 4],
  driver_feature_select: [8, 4],
  driver_feature: [12, 4],
  config_msix_vector: [16, 2],
  num_queues: [18, 2],
  device_status: [20, 1],
  config_generation: [21, 1],
  queue_select: [22, 2],
  queue_size: [24, 2],
  queue_msix_vector: [26, 2],
  queue_enable: [28, 2],
  queue_notify_off: [30, 2],
  queue_desc: [32, 4],
  queue_driver: [40, 4],
  queue_device: [48, 4],
  queue_reset: [58, 2],
} as const satisfies Record<string, readonly [offset: number, width: number]>;
export type CommonRegister = keyof typeof COMMON;

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;
export const VERSION_1 = 1n << 32n;

export interface Descriptor {
  readonly addr: number;
  readonly len: number;
  readonly flags?: number;
  readonly next?: number;
}

/** A split ring in guest memory: 16 bytes for each descriptor, then the available ring, then, aligned to 4, the used ring. */
export interface Ring {
  readonly index: number;
  readonly size: number;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
}

export class DriverClient {
  readonly at: string;
  private readonly server: TestServer;
  private readonly nic: string;

  constructor(server: TestServer, topology: string, guest: string, nic = 'net0') {
    this.server = server;
    this.at = `/v1/topologies/${topology}/guests/${guest}`;
    this.nic = `${this.at}/nics/${nic}`;
  }

  // ---- registers --------------------------------------------------------------------------------------------------
  async access(region: string, offset: number, width: number, value?: number): Promise<number> {
    const body = { region, offset, width, ...(value === undefined ? {} : { value }) };
    const answer = await this.server.post(`${this.nic}/registers`, body);
    assert.equal(answer.status, 200, `${JSON.stringify(body)}: ${answer.text}`);
    return answer.body.value;
  }
  read(name: CommonRegister): Promise<number> {
    return this.access('common', COMMON[name][0], COMMON[name][1]);
  }
  write(name: CommonRegister, value: number): Promise<number> {
    return this.access('common', COMMON[name][0], COMMON[name][1], value);
  }
  async writeAddress(name: 'queue_desc' | 'queue_driver' | 'queue_device', address: number): Promise<void> {
    await this.access('common', COMMON[name][0], 4, address % 2 ** 32);
    await this.access('common', COMMON[name][0] + 4, 4, Math.floor(address / 2 ** 32));
  }
  async offered(): Promise<bigint> {
    let bits = 0n;
    for (const select of [0, 1]) {
      await this.write('device_feature_select', select);
      bits |= BigInt(await this.read('device_feature')) << BigInt(32 * select);
    }
    return bits;
  }
  /** virtio 1.2 §3.1.1, steps 1 to 6. Returns what was agreed. */
  async negotiate(wanted: bigint): Promise<bigint> {
    // the device is a bus master from here on
    await this.access('pci', 4, 2, 7);
    await this.write('device_status', 0);
    await this.write('device_status', 1);
    await this.write('device_status', 3);
    const agreed = (await this.offered()) & wanted;
    for (const select of [0, 1]) {
      await this.write('driver_feature_select', select);
      await this.write('driver_feature', Number((agreed >> BigInt(32 * select)) & 0xffff_ffffn));
    }
    await this.write('device_status', 11);
    assert.equal(await this.read('device_status'), 11, 'FEATURES_OK');
    return agreed;
  }
  async setUpQueue(index: number, size: number, at: number): Promise<Ring> {
    const avail = at + 16 * size;
    const used = Math.ceil((avail + 6 + 2 * size) / 4) * 4;
    await this.write('queue_select', index);
    await this.write('queue_size', size);
    await this.writeAddress('queue_desc', at);
    await this.writeAddress('queue_driver', avail);
    await this.writeAddress('queue_device', used);
    await this.write('queue_enable', 1);
    return { index, size, desc: at, avail, used };
  }
  async driverOk(): Promise<void> {
    await this.write('device_status', 15);
    assert.equal(await this.read('device_status'), 15, 'DRIVER_OK');
  }
  async notify(queue: number | string): Promise<void> {
    const answer = await this.server.post(`${this.nic}/queues/${queue}/notify`);
    assert.equal(answer.status, 200, answer.text);
  }
  async state() {
    return (await this.server.get(this.nic)).body;
  }

  // ---- memory -----------------------------------------------------------------------------------------------------
  async put(address: number, bytes: Uint8Array): Promise<void> {
    const payload = Buffer.from(bytes);
    const answer = await this.server.request('PUT', `${this.at}/memory?address=${address}`, {
      payload,
      headers: OCTETS,
    });
    assert.equal(answer.status, 204, answer.text);
  }
  async get(address: number, length: number): Promise<Buffer> {
    const url = `${this.at}/memory?address=${address}&length=${length}`;
    const answer = await this.server.get(url, { headers: { accept: OCTETS['content-type'] } });
    assert.equal(answer.status, 200, answer.text);
    return answer.raw;
  }
  async get16(address: number): Promise<number> {
    return (await this.get(address, 2)).readUInt16LE(0);
  }

  // ---- split rings ------------------------------------------------------------------------------------------------
  async writeDescriptor(table: number, i: number, d: Descriptor): Promise<void> {
    const bytes = Buffer.alloc(16);
    bytes.writeBigUInt64LE(BigInt(d.addr), 0);
    bytes.writeUInt32LE(d.len, 8);
    bytes.writeUInt16LE(d.flags ?? 0, 12);
    bytes.writeUInt16LE(d.next ?? 0, 14);
    await this.put(table + 16 * i, bytes);
  }
  /** Puts a chain that begins at descriptor `head` into the available ring and publishes it; no notification. */
  async makeAvailable(ring: Ring, head: number): Promise<void> {
    const idx = await this.get16(ring.avail + 2);
    const word = Buffer.alloc(2);
    word.writeUInt16LE(head);
    await this.put(ring.avail + 4 + 2 * (idx % ring.size), word);
    word.writeUInt16LE((idx + 1) & 0xffff);
    await this.put(ring.avail + 2, word);
  }
  usedIdx(ring: Ring): Promise<number> {
    return this.get16(ring.used + 2);
  }
  async usedEntry(ring: Ring, slot: number): Promise<{ id: number; len: number }> {
    const bytes = await this.get(ring.used + 4 + 8 * (slot % ring.size), 8);
    return { id: bytes.readUInt32LE(0), len: bytes.readUInt32LE(4) };
  }
}

const macBytes = (mac: string): number[] => mac.split(':').map((byte) => Number.parseInt(byte, 16));
const ipBytes = (ip: string): number[] => ip.split('.').map(Number);
/** An ARP request of 60 bytes (RFC 826). */
export function arpRequest(mac: string, ip: string, asked: string): Buffer {
  const head = [...Array(6).fill(0xff), ...macBytes(mac), 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
  const body = [...macBytes(mac), ...ipBytes(ip), ...Array(6).fill(0), ...ipBytes(asked)];
  return Buffer.concat([Buffer.from([...head, ...body])], 60);
}
/** What an ARP reply says: who answers, and with which address. Fails where the frame is none. */
export function readArpReply(frame: Buffer): { mac: string; ip: string } {
  assert.equal(frame.readUInt16BE(12), 0x0806, `an ARP frame: ${frame.toString('hex')}`);
  assert.equal(frame.readUInt16BE(20), 2, 'a reply');
  const mac = [...frame.subarray(22, 28)].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
  return { mac, ip: [...frame.subarray(28, 32)].join('.') };
}
