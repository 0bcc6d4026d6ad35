/**
 * Everything that a driver can get wrong, by class: how it is done, and what comes of it. docs/robustness.md has the same
 * classes in a table; robust-device.test.ts does each of them on each back-end.
 */
import {
  type BareDriver,
  CTRL_VQ,
  type Descriptor,
  INDIRECT,
  NEXT,
  RAM,
  RX_BUFFER,
  SIZE,
  TX_BUFFER,
  WRITE,
} from './bare-driver.ts';

/** What the device does. */
export type Outcome =
  /** virtq.error with this code; the chain comes back with length 0, and the queue goes on. */
  | { readonly is: 'returned'; readonly code: number }
  /** virtq.error with this code; there is nothing that could come back, and the queue goes on. */
  | { readonly is: 'skipped'; readonly code: number }
  /** DEVICE_NEEDS_RESET, and a configuration interrupt where the driver is live. */
  | { readonly is: 'reset'; readonly reason: number }
  /** virtio_net.ctrl with ack 1, VIRTIO_NET_ERR; nothing changes. */
  | { readonly is: 'answered' }
  /** virtio_net.ctrl; the chain comes back with length 0, as there is no room for an answer. */
  | { readonly is: 'unanswered' }
  /** virtio.rejected; nothing changes. */
  | { readonly is: 'ignored' };

export interface Malformed {
  readonly what: string;
  readonly does: (driver: BareDriver) => void;
  readonly outcome: Outcome;
  /** The queue that it concerns. */
  readonly queue: 0 | 1 | 2;
  /** A buffer that the device may write into before it gives the chain back. */
  readonly buffer?: { readonly at: number; readonly length: number };
  /** Only of rings of one format. */
  readonly format?: 'split' | 'packed';
  /** Only with these back-ends. */
  readonly backends?: readonly string[];
  /** Feature bits 0 to 31 that the driver accepts. */
  readonly features?: number;
  /** Done before DRIVER_OK, on a device that has agreed on features. */
  readonly early?: boolean;
}

const returned = (code: number): Outcome => ({ is: 'returned', code });
const reset = (reason: number): Outcome => ({ is: 'reset', reason });
const IGNORED: Outcome = { is: 'ignored' };

const INDIRECT_DESC = 2 ** 28;
const CSUM = 1;
const HOST_TSO4 = 2 ** 11;
const TABLE = 0x6_0000;
const GOOD = { addr: TX_BUFFER, len: 72 };

const send =
  (...chain: Descriptor[]) =>
  (driver: BareDriver): void =>
    driver.give(1, chain);
/** An indirect table of `entries` at TABLE, and a descriptor that names `bytes` of it. */
const indirect =
  (bytes: number, ...entries: Descriptor[]) =>
  (driver: BareDriver): void => {
    const packed = driver.packed;
    for (const [i, d] of entries.entries()) {
      const at = new DataView(new ArrayBuffer(16));
      at.setBigUint64(0, BigInt(d.addr), true);
      at.setUint32(8, d.len, true);
      at.setUint16(packed ? 14 : 12, d.flags ?? 0, true);
      at.setUint16(packed ? 12 : 14, d.next ?? 0, true);
      driver.write(TABLE + 16 * i, new Uint8Array(at.buffer));
    }
    driver.give(1, [{ addr: TABLE, len: bytes, flags: INDIRECT }]);
  };
/** A frame of 60 bytes with this header: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset. */
const header =
  (...fields: readonly [number, number, number, number, number, number]) =>
  (driver: BareDriver): void => {
    const good = driver.arp();
    const [flags, type, ...rest] = fields;
    driver.write16(TX_BUFFER, flags | (type << 8), ...rest);
    driver.give(1, [good]);
  };
/** A buffer of the receive queue, and a frame that comes in. */
const receive =
  (...chain: Descriptor[]) =>
  (driver: BareDriver): void => {
    driver.give(0, chain);
    driver.inject('f1');
  };
const common =
  (offset: number, width: 1 | 2 | 4, value: number) =>
  (driver: BareDriver): void =>
    driver.common(offset, width, value);

/** What the back-end is not offered is refused before anything else is looked at: DPDK has no checksum offload by default. */
const KERNEL = ['virtio-net', 'vhost-net'];

export const CHAINS: readonly Malformed[] = [
  {
    what: 'a head that is no descriptor',
    does: (driver) => driver.give(1, [], SIZE),
    outcome: { is: 'skipped', code: 1 },
    queue: 1,
    format: 'split',
  },
  {
    what: 'a buffer id that is not below the size of the queue',
    does: send({ ...GOOD, next: SIZE }),
    outcome: { is: 'skipped', code: 1 },
    queue: 1,
    format: 'packed',
  },
  {
    what: 'a next that is no descriptor',
    does: send({ ...GOOD, flags: NEXT, next: 77 }),
    outcome: returned(1),
    queue: 1,
    format: 'split',
  },
  { what: 'a buffer behind the end of memory', does: send({ addr: RAM, len: 72 }), outcome: returned(2), queue: 1 },
  {
    what: 'a buffer across the end of memory',
    does: send({ addr: RAM - 16, len: 72 }),
    outcome: returned(2),
    queue: 1,
  },
  {
    what: 'a buffer whose address wraps around',
    does: send({ addr: 2n ** 64n - 16n, len: 72 }),
    outcome: returned(2),
    queue: 1,
  },
  { what: 'a buffer of 4 GiB', does: send({ addr: 0, len: 0xffff_ffff }), outcome: returned(2), queue: 1 },
  {
    what: 'a chain that loops',
    does: send({ ...GOOD, flags: NEXT, next: 0 }),
    outcome: returned(3),
    queue: 1,
    format: 'split',
  },
  {
    what: 'a frame longer than the device takes',
    does: send({ addr: 0, len: 0x8_0000 }),
    outcome: returned(3),
    queue: 1,
  },
  {
    what: 'a frame longer than 64 KiB, with segmentation negotiated',
    does: send({ addr: 0, len: 0x8_0000 }),
    outcome: returned(3),
    queue: 1,
    features: CSUM + HOST_TSO4,
    backends: KERNEL,
  },
  {
    what: 'a buffer to be written in a transmit chain',
    does: send({ ...GOOD, flags: WRITE }),
    outcome: returned(4),
    queue: 1,
  },
  {
    what: 'a buffer to be read in a receive chain',
    does: receive({ addr: RX_BUFFER, len: 2048 }),
    outcome: returned(4),
    queue: 0,
  },
  { what: 'an indirect table that was not negotiated', does: indirect(16, GOOD), outcome: returned(5), queue: 1 },
  {
    what: 'an indirect table of no whole number of descriptors',
    does: indirect(24, GOOD),
    outcome: returned(5),
    queue: 1,
    features: INDIRECT_DESC,
  },
  { what: 'an empty indirect table', does: indirect(0), outcome: returned(5), queue: 1, features: INDIRECT_DESC },
  {
    what: 'an indirect table inside an indirect table',
    does: indirect(16, { addr: TABLE, len: 16, flags: INDIRECT }),
    outcome: returned(5),
    queue: 1,
    format: 'split',
    features: INDIRECT_DESC,
  },
  {
    what: 'an indirect table outside memory',
    does: send({ addr: RAM, len: 16, flags: INDIRECT }),
    outcome: returned(5),
    queue: 1,
    features: INDIRECT_DESC,
  },
  { what: 'a frame without a whole header', does: send({ addr: TX_BUFFER, len: 4 }), outcome: returned(6), queue: 1 },
  {
    what: 'a receive buffer shorter than the frame, without VIRTIO_NET_F_MRG_RXBUF',
    does: receive({ addr: RX_BUFFER, len: 40, flags: WRITE }),
    outcome: returned(6),
    queue: 0,
    buffer: { at: RX_BUFFER, length: 40 },
  },
  {
    what: 'a receive buffer outside memory',
    does: receive({ addr: RAM, len: 2048, flags: WRITE }),
    outcome: returned(2),
    queue: 0,
  },
];

export const INDICES: readonly Malformed[] = [
  {
    what: 'an available index further on than the queue is long, to transmit',
    does: (driver) => {
      driver.write16(driver.areas(1).driver + 2, 12345);
      driver.kick(1);
    },
    outcome: reset(17),
    queue: 1,
    format: 'split',
  },
  {
    what: 'an available index further on than the queue is long, to receive',
    does: (driver) => {
      driver.write16(driver.areas(0).driver + 2, 12345);
      driver.inject('f1');
      driver.kick(0);
    },
    outcome: reset(17),
    queue: 0,
    format: 'split',
  },
  {
    what: 'a chain that does not end within the ring',
    does: (driver) =>
      driver.give(
        1,
        Array.from({ length: SIZE }, () => ({ ...GOOD, flags: NEXT })),
      ),
    outcome: reset(17),
    queue: 1,
    format: 'packed',
  },
];

export const HEADERS: readonly Malformed[] = [
  {
    what: 'NEEDS_CSUM without VIRTIO_NET_F_CSUM',
    does: header(1, 0, 0, 0, 34, 16),
    outcome: returned(64),
    queue: 1,
  },
  {
    what: 'csum_start and csum_offset outside of the frame',
    does: header(1, 0, 0, 0, 60, 16),
    outcome: returned(66),
    queue: 1,
    features: CSUM,
    backends: KERNEL,
  },
  {
    what: 'csum_start inside the network header',
    does: header(1, 0, 0, 0, 20, 6),
    outcome: returned(66),
    queue: 1,
    features: CSUM,
    backends: KERNEL,
  },
  {
    what: 'a gso_type that there is not',
    does: header(1, 0x7f, 54, 100, 34, 16),
    outcome: returned(64),
    queue: 1,
    features: CSUM + HOST_TSO4,
    backends: KERNEL,
  },
  {
    what: 'a gso_size of 0',
    does: header(1, 1, 54, 0, 34, 16),
    outcome: returned(65),
    queue: 1,
    features: CSUM + HOST_TSO4,
    backends: KERNEL,
  },
  {
    what: 'a gso_type on a frame that has not its headers',
    does: header(1, 1, 54, 100, 34, 16),
    outcome: returned(67),
    queue: 1,
    features: CSUM + HOST_TSO4,
    backends: KERNEL,
  },
];

const ANSWER = 0x7_0000;
const ANSWERED: Outcome = { is: 'answered' };
/** A command with its bytes behind class and cmd, and a byte for the answer. */
const command =
  (bytes: readonly number[], chain?: readonly Descriptor[]) =>
  (driver: BareDriver): void => {
    driver.write(TABLE, Uint8Array.from(bytes));
    driver.write(ANSWER, Uint8Array.of(0xee));
    driver.give(
      2,
      chain ?? [{ addr: TABLE, len: bytes.length, flags: NEXT, next: driver.packed ? 0 : 1 }, ANSWER_BYTE],
    );
  };
const ANSWER_BYTE: Descriptor = { addr: ANSWER, len: 1, flags: WRITE };
const control = { queue: 2, buffer: { at: ANSWER, length: 1 }, features: CTRL_VQ + 2 ** 18 + 2 ** 23 } as const;
export const COMMANDS: readonly Malformed[] = [
  { what: 'a class that there is not', does: command([99, 0, 1]), outcome: ANSWERED, ...control },
  { what: 'a command that there is not', does: command([0, 77, 1]), outcome: ANSWERED, ...control },
  { what: 'a command that was not negotiated', does: command([4, 0, 1, 0]), outcome: ANSWERED, ...control },
  { what: 'data that are too short', does: command([1, 1, 0x52]), outcome: ANSWERED, ...control },
  { what: 'data that are too long', does: command([1, 1, 0x52, 0x54, 0, 0, 0, 1, 9]), outcome: ANSWERED, ...control },
  { what: 'less than class and cmd', does: command([1]), outcome: ANSWERED, ...control },
  {
    what: 'no byte for the answer',
    does: command([0, 0, 1], [{ addr: TABLE, len: 3 }]),
    outcome: { is: 'unanswered' },
    ...control,
  },
  {
    what: 'a command outside memory',
    does: command([0, 0, 1], [{ addr: RAM, len: 3, flags: NEXT, next: 1 }, ANSWER_BYTE]),
    outcome: returned(2),
    ...control,
    format: 'split',
  },
];

export const REGISTERS: readonly Malformed[] = [
  {
    what: 'a ring outside memory',
    does: (driver) => driver.place(1, { desc: RAM, driver: RAM + 128, device: RAM + 152 }),
    outcome: reset(2),
    queue: 1,
    early: true,
  },
  {
    what: 'a ring across the end of memory',
    does: (driver) => driver.place(1, { ...driver.areas(1), device: RAM - 4 }),
    outcome: reset(2),
    queue: 1,
    early: true,
    format: 'split',
  },
  {
    what: 'a ring that is misaligned',
    does: (driver) => driver.place(1, { ...driver.areas(1), desc: 0x2_0008 }),
    outcome: reset(2),
    queue: 1,
    early: true,
  },
  {
    what: '0 to queue_enable',
    does: (driver) => {
      driver.common(22, 2, 1);
      driver.common(28, 2, 0);
    },
    outcome: reset(1),
    queue: 1,
  },
  {
    what: 'a queue_size that is no power of two, or too large',
    does: (driver) => {
      driver.common(22, 2, 1);
      driver.common(24, 2, 7);
    },
    outcome: IGNORED,
    queue: 1,
    early: true,
    format: 'split',
  },
  {
    what: 'a queue_size of 0',
    does: (driver) => {
      driver.common(22, 2, 1);
      driver.common(24, 2, 0);
    },
    outcome: IGNORED,
    queue: 1,
    early: true,
  },
  {
    what: 'the address of a queue that is enabled',
    does: (driver) => {
      driver.common(22, 2, 1);
      driver.common(32, 4, 0x7_0000);
    },
    outcome: IGNORED,
    queue: 1,
  },
  {
    what: 'a register of a queue that there is not',
    does: (driver) => {
      driver.common(22, 2, 999);
      driver.common(24, 2, 8);
    },
    outcome: IGNORED,
    queue: 1,
  },
  {
    what: 'features after FEATURES_OK',
    does: (driver) => {
      driver.common(8, 4, 0);
      driver.common(12, 4, 0xffff_ffff);
    },
    outcome: IGNORED,
    queue: 1,
  },
  { what: 'a status bit taken back', does: common(20, 1, 1), outcome: IGNORED, queue: 1 },
  {
    what: 'DRIVER_OK before FEATURES_OK',
    does: (driver) => {
      driver.status(0);
      driver.status(3);
      driver.status(7);
    },
    outcome: IGNORED,
    queue: 1,
    early: true,
  },
  {
    what: 'FEATURES_OK for features that were not offered',
    does: (driver) => {
      driver.status(0);
      driver.status(3);
      driver.common(8, 4, 1);
      driver.common(12, 4, 0x8000_0001);
      driver.status(11);
    },
    outcome: IGNORED,
    queue: 1,
    early: true,
  },
  { what: 'a read-only register', does: common(21, 1, 1), outcome: IGNORED, queue: 1 },
  {
    what: 'the device configuration, which a modern driver may not write',
    does: (driver) => driver.access('device', 0, 1, 7),
    outcome: IGNORED,
    queue: 1,
  },
  {
    what: 'queue_reset without VIRTIO_F_RING_RESET',
    does: (driver) => {
      driver.common(22, 2, 1);
      driver.common(58, 2, 1);
    },
    outcome: IGNORED,
    queue: 1,
  },
  {
    what: 'a notification of a queue that is not enabled',
    does: (driver) => driver.kick(1),
    outcome: IGNORED,
    queue: 1,
    early: true,
  },
  { what: 'part of an MSI-X entry', does: (driver) => driver.access('msix', 1, 1, 0xff), outcome: IGNORED, queue: 1 },
];
