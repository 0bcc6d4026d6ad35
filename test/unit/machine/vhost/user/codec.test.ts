import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { featureName } from '../../../../../src/machine/virtio/features.ts';
import {
  decodeMessage,
  encodeMessage,
  fdRange,
  payloadSizeOk,
} from '../../../../../src/machine/wire/vhost-user-codec.ts';
import {
  decodeFields,
  encodeFields,
  messageFields,
  reencode,
} from '../../../../../src/machine/wire/vhost-user-fields.ts';
import {
  type PayloadKind,
  VHOST_USER_BACKEND_MESSAGES,
  VHOST_USER_MESSAGES,
  vhostUserBackendMessage,
  vhostUserMessage,
} from '../../../../../src/machine/wire/vhost-user-messages.ts';
import { VHOST_USER_PROTOCOL_FEATURE_NAMES } from '../../../../../src/machine/wire/vhost-user-requests.ts';
import { hexOf, SCENARIOS, scenario, unhex } from './golden.ts';

describe('the table', () => {
  it('has the 44 messages of the front-end and the 10 of the back-end, and 22 protocol features', () => {
    assert.deepEqual(
      VHOST_USER_MESSAGES.map((m) => m.id),
      Array.from({ length: 44 }, (_, i) => i + 1),
    );
    assert.deepEqual(
      VHOST_USER_BACKEND_MESSAGES.map((m) => m.id),
      Array.from({ length: 10 }, (_, i) => i + 1),
    );
    assert.equal(VHOST_USER_PROTOCOL_FEATURE_NAMES.length, 22);
  });
});

describe('the recorded messages', () => {
  it.each(SCENARIOS)('%s: each decodes, has the descriptors that the table says, and encodes to its bytes', (name) => {
    for (const m of scenario(name).messages) {
      const bytes = unhex(m.hex);
      const message = decodeMessage(bytes);
      assert.ok(message !== null, `${m.seq}`);
      const row = m.channel === 'main' ? vhostUserMessage(message.request) : vhostUserBackendMessage(message.request);
      assert.ok(row !== undefined, `${m.seq}`);
      const again = reencode(bytes, m.channel);
      assert.ok(again !== null, `${m.seq} ${row.name}`);
      assert.equal(hexOf(again), m.hex, `${m.seq} ${row.name}`);
      const [fewest, most] = message.reply ? [0, 0] : fdRange(row, message.payload);
      assert.ok(m.fds.length >= fewest && m.fds.length <= most, `${m.seq} ${row.name}`);
    }
  });
  it('there are 1175 of them', () => {
    const all = SCENARIOS.map((name) => scenario(name).messages.length);
    assert.equal(
      all.reduce((a, b) => a + b, 0),
      1175,
    );
  });
});

describe('fields', () => {
  const shown = (hex: string, channel: 'main' | 'backend' = 'main') => messageFields(unhex(hex), channel, featureName);
  it('of a recorded memory table, ring address, IOTLB messages, kick, log and RARP', () => {
    const plain = scenario('plain').messages;
    const at = (seq: number): string => plain.find((m) => m.seq === seq)!.hex;
    assert.deepEqual(shown(at(33)), {
      name: 'VHOST_USER_SET_MEM_TABLE',
      request: 5,
      reply: false,
      needReply: true,
      payload: {
        num_regions: 1,
        regions: [
          { guest_phys_addr: '0x0', memory_size: '0x10000000', userspace_addr: '0x7f2167fff000', mmap_offset: '0x0' },
        ],
      },
    });
    assert.deepEqual(shown(at(138))?.payload, {
      index: 0,
      flags: 1,
      desc_user_addr: '0x7f216d751000',
      used_user_addr: '0x7f216d752240',
      avail_user_addr: '0x7f216d752000',
      log_guest_addr: '0x5753240',
    });
    assert.deepEqual(shown(at(132))?.payload, { mmap_size: '0x2000', mmap_offset: '0x0' });
    assert.deepEqual(shown(at(43))?.payload, { u64: '0x1', index: 1, no_fd: 0 });
    assert.equal(
      shown(at(6))?.payload?.['protocol_features'],
      'MQ LOG_SHMFD RARP REPLY_ACK MTU BACKEND_REQ CRYPTO_SESSION BACKEND_SEND_FD HOST_NOTIFIER STATUS',
    );
    assert.match(String(shown(at(29))?.payload?.['features']), /VIRTIO_NET_F_CSUM .*VHOST_USER_F_PROTOCOL_FEATURES/);
    assert.equal(shown(at(5))?.payload?.['protocol_features'], undefined);
    assert.deepEqual(shown('130000000100000008000000' + '5254001234560000')?.payload, {
      u64: '0x563412005452',
      mac: '52:54:00:12:34:56',
    });
    const iommu = scenario('viommu').messages;
    const of = (seq: number) => {
      const m = iommu.find((x) => x.seq === seq)!;
      return shown(m.hex, m.channel);
    };
    assert.deepEqual(of(38), {
      name: 'VHOST_USER_BACKEND_IOTLB_MSG',
      request: 1,
      reply: false,
      needReply: false,
      payload: { iova: '0xffffe000', size: '0x0', uaddr: '0x0', perm: 3, type: 1, type_name: 'MISS', perm_name: 'RW' },
    });
    assert.deepEqual(of(58)?.payload, { iova: '0xffeb9000', size: '0x1000', type: 3, type_name: 'INVALIDATE' });
  });
  it('are null where the payload has not the length of the message, and there is a name for what means nothing', () => {
    assert.equal(shown('080000000100000004000000' + '00000000')?.payload, null);
    assert.equal(shown('630000000100000000000000')?.name, 'request 99');
    assert.equal(shown('0800'), null);
  });

  const word = (bits: number) => fc.bigInt({ min: 0n, max: (1n << BigInt(bits)) - 1n });
  const bytesOf = (n: number) => fc.uint8Array({ minLength: n, maxLength: n });
  const any: Readonly<Record<PayloadKind, fc.Arbitrary<Uint8Array>>> = {
    none: bytesOf(0),
    u64: bytesOf(8),
    vring_state: bytesOf(8),
    vring_addr: bytesOf(40),
    memory: fc.integer({ min: 0, max: 8 }).chain((n) =>
      bytesOf(8 + 32 * n).map((b) => {
        b.set([n, 0, 0, 0]);
        return b;
      }),
    ),
    single_region: bytesOf(40),
    log: bytesOf(16),
    iotlb: fc.oneof(bytesOf(32), bytesOf(26)),
    config: fc.integer({ min: 0, max: 256 }).chain((n) =>
      bytesOf(12 + n).map((b) => {
        b.set([n & 0xff, n >> 8, 0, 0], 4);
        return b;
      }),
    ),
    vring_area: bytesOf(24),
    inflight: fc.oneof(bytesOf(24), bytesOf(20)),
    crypto_session: bytesOf(632),
    device_state: bytesOf(8),
    uuid: bytesOf(16),
    shmem_config: bytesOf(8 + 8 * 256),
    mmap: bytesOf(40),
  };
  it('every payload of every kind is encoded as it was', () => {
    for (const [kind, payloads] of Object.entries(any) as [PayloadKind, fc.Arbitrary<Uint8Array>][])
      fc.assert(
        fc.property(payloads, (payload) => {
          assert.ok(payloadSizeOk(kind, payload));
          assert.equal(hexOf(encodeFields(kind, decodeFields(kind, payload), payload.length)), hexOf(payload), kind);
        }),
        { numRuns: 50, verbose: 1 },
      );
  });
  it('agree with a naive reading of the words', () => {
    fc.assert(
      fc.property(
        word(32),
        word(32),
        word(64),
        word(64),
        word(64),
        word(64),
        (index, flags, desc, used, avail, log) => {
          const words: [bigint, number][] = [
            [index, 4],
            [flags, 4],
            [desc, 8],
            [used, 8],
            [avail, 8],
            [log, 8],
          ];
          const payload = new Uint8Array(
            words.flatMap(([v, n]) => Array.from({ length: n }, (_, i) => Number((v >> BigInt(8 * i)) & 0xffn))),
          );
          assert.deepEqual(decodeFields('vring_addr', payload), {
            index: Number(index),
            flags: Number(flags),
            desc_user_addr: `0x${desc.toString(16)}`,
            used_user_addr: `0x${used.toString(16)}`,
            avail_user_addr: `0x${avail.toString(16)}`,
            log_guest_addr: `0x${log.toString(16)}`,
          });
        },
      ),
      { verbose: 1 },
    );
  });
});

/** Byte by byte, arithmetic only. */
function naiveEncode(request: number, flags: number, payload: readonly number[]): number[] {
  const u32 = (v: number): number[] => [v, v / 2 ** 8, v / 2 ** 16, v / 2 ** 24].map((b) => Math.floor(b) % 256);
  return [...u32(request), ...u32(flags), ...u32(payload.length), ...payload];
}

describe('the header', () => {
  it('agrees with a naive one (any message, any payload)', () => {
    fc.assert(
      fc.property(
        fc.nat(0xffff_ffff),
        fc.constantFrom(0, 4, 8, 12),
        fc.uint8Array({ maxLength: 300, size: 'max' }),
        (request, flags, payload) => {
          const bytes = encodeMessage(request, flags, payload);
          assert.deepEqual([...bytes], naiveEncode(request, flags | 1, [...payload]));
          const back = decodeMessage(bytes);
          assert.ok(back !== null);
          assert.equal(back.request, request);
          assert.equal(back.reply, (flags & 4) !== 0);
          assert.equal(back.needReply, (flags & 8) !== 0);
          assert.deepEqual([...back.payload], [...payload]);
        },
      ),
      { verbose: 1 },
    );
  });
});
