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

/** Of queue 1, in both formats, with every back-end, without features, where `more` does not say else. */
const bad = (what: string, does: Malformed['does'], outcome: Outcome, more: Partial<Malformed> = {}): Malformed => ({
  what,
  does,
  outcome,
  queue: 1,
  ...more,
});
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
/** Registers of the common configuration: offset, width, value. */
const writes =
  (...registers: readonly (readonly [offset: number, width: 1 | 2 | 4, value: number])[]) =>
  (driver: BareDriver): void => {
    for (const register of registers) driver.common(...register);
  };

/** What the back-end is not offered is refused before anything else is looked at: DPDK has no checksum offload by default. */
const KERNEL = ['virtio-net', 'vhost-net'];
const CHECKSUMMED = { features: CSUM, backends: KERNEL };
const SEGMENTED = { features: CSUM + HOST_TSO4, backends: KERNEL };
const INDIRECTION = { features: INDIRECT_DESC };
const SPLIT = { format: 'split' } as const;
const PACKED = { format: 'packed' } as const;
const EARLY = { early: true };

export const CHAINS: readonly Malformed[] = [
  bad('a head that is no descriptor', (driver) => driver.give(1, [], SIZE), { is: 'skipped', code: 1 }, SPLIT),
  bad(
    'a buffer id that is not below the size of the queue',
    send({ ...GOOD, next: SIZE }),
    { is: 'skipped', code: 1 },
    PACKED,
  ),
  bad('a next that is no descriptor', send({ ...GOOD, flags: NEXT, next: 77 }), returned(1), SPLIT),
  bad('a buffer behind the end of memory', send({ addr: RAM, len: 72 }), returned(2)),
  bad('a buffer across the end of memory', send({ addr: RAM - 16, len: 72 }), returned(2)),
  bad('a buffer whose address wraps around', send({ addr: 2n ** 64n - 16n, len: 72 }), returned(2)),
  bad('a buffer of 4 GiB', send({ addr: 0, len: 0xffff_ffff }), returned(2)),
  bad('a chain that loops', send({ ...GOOD, flags: NEXT, next: 0 }), returned(3), SPLIT),
  bad('a frame longer than the device takes', send({ addr: 0, len: 0x8_0000 }), returned(3)),
  bad(
    'a frame longer than 64 KiB, with segmentation negotiated',
    send({ addr: 0, len: 0x8_0000 }),
    returned(3),
    SEGMENTED,
  ),
  bad('a buffer to be written in a transmit chain', send({ ...GOOD, flags: WRITE }), returned(4)),
  bad('a buffer to be read in a receive chain', receive({ addr: RX_BUFFER, len: 2048 }), returned(4), { queue: 0 }),
  bad('an indirect table that was not negotiated', indirect(16, GOOD), returned(5)),
  bad('an indirect table of no whole number of descriptors', indirect(24, GOOD), returned(5), INDIRECTION),
  bad('an empty indirect table', indirect(0), returned(5), INDIRECTION),
  bad(
    'an indirect table inside an indirect table',
    indirect(16, { addr: TABLE, len: 16, flags: INDIRECT }),
    returned(5),
    { format: 'split', features: INDIRECT_DESC },
  ),
  bad('an indirect table outside memory', send({ addr: RAM, len: 16, flags: INDIRECT }), returned(5), INDIRECTION),
  bad('a frame without a whole header', send({ addr: TX_BUFFER, len: 4 }), returned(6)),
  bad(
    'a receive buffer shorter than the frame, without VIRTIO_NET_F_MRG_RXBUF',
    receive({ addr: RX_BUFFER, len: 40, flags: WRITE }),
    returned(6),
    { queue: 0, buffer: { at: RX_BUFFER, length: 40 } },
  ),
  bad('a receive buffer outside memory', receive({ addr: RAM, len: 2048, flags: WRITE }), returned(2), { queue: 0 }),
];

export const INDICES: readonly Malformed[] = [
  bad(
    'an available index further on than the queue is long, to transmit',
    (driver) => {
      driver.write16(driver.areas(1).driver + 2, 12345);
      driver.kick(1);
    },
    reset(17),
    SPLIT,
  ),
  bad(
    'an available index further on than the queue is long, to receive',
    (driver) => {
      driver.write16(driver.areas(0).driver + 2, 12345);
      driver.inject('f1');
      driver.kick(0);
    },
    reset(17),
    { queue: 0, format: 'split' },
  ),
  bad(
    'a chain that does not end within the ring',
    (driver) =>
      driver.give(
        1,
        Array.from({ length: SIZE }, () => ({ ...GOOD, flags: NEXT })),
      ),
    reset(17),
    PACKED,
  ),
];

export const HEADERS: readonly Malformed[] = [
  bad('NEEDS_CSUM without VIRTIO_NET_F_CSUM', header(1, 0, 0, 0, 34, 16), returned(64)),
  bad('csum_start and csum_offset outside of the frame', header(1, 0, 0, 0, 60, 16), returned(66), CHECKSUMMED),
  bad('csum_start inside the network header', header(1, 0, 0, 0, 20, 6), returned(66), CHECKSUMMED),
  bad('a gso_type that there is not', header(1, 0x7f, 54, 100, 34, 16), returned(64), SEGMENTED),
  bad('a gso_size of 0', header(1, 1, 54, 0, 34, 16), returned(65), SEGMENTED),
  bad('a gso_type on a frame that has not its headers', header(1, 1, 54, 100, 34, 16), returned(67), SEGMENTED),
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
const CONTROL = { queue: 2, buffer: { at: ANSWER, length: 1 }, features: CTRL_VQ + 2 ** 18 + 2 ** 23 } as const;
export const COMMANDS: readonly Malformed[] = [
  bad('a class that there is not', command([99, 0, 1]), ANSWERED, CONTROL),
  bad('a command that there is not', command([0, 77, 1]), ANSWERED, CONTROL),
  bad('a command that was not negotiated', command([4, 0, 1, 0]), ANSWERED, CONTROL),
  bad('data that are too short', command([1, 1, 0x52]), ANSWERED, CONTROL),
  bad('data that are too long', command([1, 1, 0x52, 0x54, 0, 0, 0, 1, 9]), ANSWERED, CONTROL),
  bad('less than class and cmd', command([1]), ANSWERED, CONTROL),
  bad('no byte for the answer', command([0, 0, 1], [{ addr: TABLE, len: 3 }]), { is: 'unanswered' }, CONTROL),
  bad(
    'a command outside memory',
    command([0, 0, 1], [{ addr: RAM, len: 3, flags: NEXT, next: 1 }, ANSWER_BYTE]),
    returned(2),
    { ...CONTROL, format: 'split' },
  ),
];

export const REGISTERS: readonly Malformed[] = [
  bad(
    'a ring outside memory',
    (driver) => driver.place(1, { desc: RAM, driver: RAM + 128, device: RAM + 152 }),
    reset(2),
    EARLY,
  ),
  bad(
    'a ring across the end of memory',
    (driver) => driver.place(1, { ...driver.areas(1), device: RAM - 4 }),
    reset(2),
    { early: true, format: 'split' },
  ),
  bad(
    'a ring that is misaligned',
    (driver) => driver.place(1, { ...driver.areas(1), desc: 0x2_0008 }),
    reset(2),
    EARLY,
  ),
  bad('0 to queue_enable', writes([22, 2, 1], [28, 2, 0]), reset(1)),
  bad('a queue_size that is no power of two, or too large', writes([22, 2, 1], [24, 2, 7]), IGNORED, {
    early: true,
    format: 'split',
  }),
  bad('a queue_size of 0', writes([22, 2, 1], [24, 2, 0]), IGNORED, EARLY),
  bad('the address of a queue that is enabled', writes([22, 2, 1], [32, 4, 0x7_0000]), IGNORED),
  bad('a register of a queue that there is not', writes([22, 2, 999], [24, 2, 8]), IGNORED),
  bad('features after FEATURES_OK', writes([8, 4, 0], [12, 4, 0xffff_ffff]), IGNORED),
  bad('a status bit taken back', writes([20, 1, 1]), IGNORED),
  bad(
    'DRIVER_OK before FEATURES_OK',
    (driver) => {
      driver.status(0);
      driver.status(3);
      driver.status(7);
    },
    IGNORED,
    EARLY,
  ),
  bad(
    'FEATURES_OK for features that were not offered',
    (driver) => {
      driver.status(0);
      driver.status(3);
      driver.common(8, 4, 1);
      driver.common(12, 4, 0x8000_0001);
      driver.status(11);
    },
    IGNORED,
    EARLY,
  ),
  bad('a read-only register', writes([21, 1, 1]), IGNORED),
  bad(
    'the device configuration, which a modern driver may not write',
    (driver) => driver.access('device', 0, 1, 7),
    IGNORED,
  ),
  bad('queue_reset without VIRTIO_F_RING_RESET', writes([22, 2, 1], [58, 2, 1]), IGNORED),
  bad('a notification of a queue that is not enabled', (driver) => driver.kick(1), IGNORED, EARLY),
  bad('part of an MSI-X entry', (driver) => driver.access('msix', 1, 1, 0xff), IGNORED),
];
