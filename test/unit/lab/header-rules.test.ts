/** The reader of header rules sees each breach that it is there for, and none in frames that are right. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { type NetHeader, receiveBreaches, transmitBreaches } from './header-rules.ts';

const PLAIN: NetHeader = { flags: 0, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 0, csumOffset: 0, numBuffers: 0 };
const ones = (words: readonly number[]): number => {
  let total = words.reduce((a, b) => a + b, 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
};
/** TCP over IPv4 from 10.0.0.1:1 to 10.0.0.2:2, with a checksum that is complete or left to do. */
function tcp4(payload: number, kind: 'complete' | 'partial' | 'wrong', tcpFlags = 0x10): Uint8Array {
  const f = new Uint8Array(54 + payload);
  const put = (at: number, ...words: number[]): void => {
    for (const [i, w] of words.entries()) f.set([w >> 8, w & 0xff], at + 2 * i);
  };
  put(12, 0x0800, 0x4500, 40 + payload, 1, 0, 0x4006, 0, 0x0a00, 1, 0x0a00, 2);
  put(34, 1, 2, 0, 7, 0, 9, 0x5000 | tcpFlags, 0x1000, 0, 0);
  for (let i = 0; i < payload; i++) f[54 + i] = 31 * i;
  const pseudo = [0x0a00, 1, 0x0a00, 2, 6, 20 + payload];
  const words = Array.from({ length: (20 + payload + 1) >> 1 }, (_, i) => (f[34 + 2 * i]! << 8) | (f[35 + 2 * i] ?? 0));
  const checksum = ~ones([...pseudo, ...words]) & 0xffff;
  put(50, kind === 'complete' ? checksum : kind === 'partial' ? ones(pseudo) : checksum ^ 0x55);
  return f;
}
const NEEDS = { ...PLAIN, flags: 1, csumStart: 34, csumOffset: 16 };
const TSO = { ...NEEDS, gsoType: 1, hdrLen: 54, gsoSize: 1460 };
const features = (...names: string[]) => ({ features: new Set(names.map((n) => `VIRTIO_NET_F_${n}`)), mtu: 1500 });
const ids = (breaches: readonly string[]): string[] => breaches.map((b) => b.split(':')[0]!);

describe('a frame that the driver sends', () => {
  const host = ['CSUM', 'HOST_TSO4'];
  test.each<[string, Partial<NetHeader>, Uint8Array, string[], string[]]>([
    ['plain', PLAIN, tcp4(101, 'complete'), [], []],
    ['checksum left to the device', NEEDS, tcp4(101, 'partial'), ['CSUM'], []],
    ['large segment', TSO, tcp4(20_000, 'partial'), host, []],
    ['num_buffers', { ...PLAIN, numBuffers: 1 }, tcp4(10, 'complete'), [], ['net.tx.hdr.2']],
    ['no CSUM', NEEDS, tcp4(10, 'partial'), [], ['net.tx.hdr.3']],
    ['bad checksum', PLAIN, tcp4(10, 'wrong'), [], ['net.tx.hdr.4']],
    ['DATA_VALID', { ...PLAIN, flags: 2 }, tcp4(10, 'complete'), ['CSUM'], ['net.tx.hdr.5']],
    ['no pseudo-header', NEEDS, tcp4(10, 'complete'), ['CSUM'], ['net.tx.csum.3']],
    ['wrong place', { ...NEEDS, csumOffset: 6 }, tcp4(10, 'partial'), ['CSUM'], ['net.tx.csum.4']],
    ['no TSO4', TSO, tcp4(20_000, 'partial'), ['CSUM', 'HOST_TSO6'], ['net.tx.gso.1']],
    ['no offload at all', TSO, tcp4(20_000, 'partial'), ['CSUM'], ['net.tx.gso.1', 'net.tx.gso.7']],
    ['no NEEDS_CSUM', { ...TSO, flags: 0 }, tcp4(20_000, 'complete'), host, ['net.tx.gso.8']],
    ['no gso_size', { ...TSO, gsoSize: 0 }, tcp4(20_000, 'partial'), host, ['net.tx.gso.9']],
    ['gso_size past the MTU', { ...TSO, gsoSize: 1461 }, tcp4(20_000, 'partial'), host, ['net.tx.gso.9']],
    ['hdr_len', { ...TSO, hdrLen: 53 }, tcp4(20_000, 'partial'), host, ['net.tx.gso.11']],
    ['exact', { ...TSO, hdrLen: 60 }, tcp4(20_000, 'partial'), [...host, 'GUEST_HDRLEN'], ['net.tx.gso.10']],
    ['CWR', TSO, tcp4(20_000, 'partial', 0x90), host, ['net.tx.gso.5']],
    ['CWR unsaid', TSO, tcp4(20_000, 'partial', 0x90), [...host, 'HOST_ECN'], ['net.tx.gso.6']],
    ['CWR said', { ...TSO, gsoType: 0x81 }, tcp4(20_000, 'partial', 0x90), [...host, 'HOST_ECN'], []],
    ['too long', PLAIN, tcp4(1461, 'complete'), [], ['net.config.23']],
  ])('%s', (_, header, frame, negotiated, wanted) => {
    assert.deepEqual(ids(transmitBreaches({ ...PLAIN, ...header }, frame, features(...negotiated))), wanted);
  });
});

describe('a frame that the device delivers', () => {
  const one = { numBuffers: 1 };
  const guest = ['GUEST_CSUM', 'GUEST_TSO4'];
  test.each<[string, Partial<NetHeader>, Uint8Array, string[], string[]]>([
    ['plain', one, tcp4(101, 'complete'), [], []],
    ['checked', { ...one, flags: 2 }, tcp4(101, 'complete'), ['GUEST_CSUM'], []],
    ['left to the driver', { ...NEEDS, ...one }, tcp4(101, 'partial'), ['GUEST_CSUM'], []],
    ['large segment', { ...TSO, ...one }, tcp4(20_000, 'partial'), guest, []],
    ['wrong and unsaid, which the driver checks', one, tcp4(10, 'wrong'), ['GUEST_CSUM'], []],
    ['num_buffers 0', {}, tcp4(10, 'complete'), ['MRG_RXBUF'], ['net.rx.setup.6']],
    ['two buffers', { numBuffers: 2 }, tcp4(10, 'complete'), [], ['net.rx.mrg.1']],
    ['flags', { ...one, flags: 2 }, tcp4(10, 'complete'), [], ['net.rx.csum.1']],
    ['wrong checksum', one, tcp4(10, 'wrong'), [], ['net.rx.csum.2']],
    ['DATA_VALID untrue', { ...one, flags: 2 }, tcp4(10, 'wrong'), ['GUEST_CSUM'], ['net.rx.csum.8']],
    ['no pseudo-header', { ...NEEDS, ...one }, tcp4(10, 'complete'), ['GUEST_CSUM'], ['net.rx.csum.5']],
    ['wrong place', { ...NEEDS, ...one, csumStart: 14 }, tcp4(10, 'partial'), ['GUEST_CSUM'], ['net.rx.csum.6']],
    ['no GUEST_TSO4', { ...TSO, ...one }, tcp4(20_000, 'partial'), ['GUEST_CSUM', 'GUEST_TSO6'], ['net.rx.gso.1']],
    ['no offload', { ...TSO, ...one }, tcp4(9000, 'partial'), ['GUEST_CSUM'], ['net.rx.gso.1', 'net.rx.gso.7']],
    ['no NEEDS_CSUM', { ...TSO, ...one, flags: 2 }, tcp4(9000, 'complete'), guest, ['net.rx.gso.8']],
    ['no gso_size', { ...TSO, ...one, gsoSize: 0 }, tcp4(9000, 'partial'), guest, ['net.rx.gso.9']],
    ['RSC_INFO', { ...one, flags: 4 }, tcp4(10, 'complete'), ['GUEST_CSUM'], ['net.rx.gso.11']],
    ['hdr_len', { ...TSO, ...one, hdrLen: 20 }, tcp4(9000, 'partial'), guest, ['net.rx.gso.12']],
    ['CWR', { ...TSO, ...one }, tcp4(9000, 'partial', 0x90), guest, ['net.rx.gso.5']],
    ['CWR unsaid', { ...TSO, ...one }, tcp4(9000, 'partial', 0x90), [...guest, 'GUEST_ECN'], ['net.rx.gso.6']],
    ['past the MTU', one, tcp4(1461, 'complete'), ['MTU'], ['net.config.5']],
  ])('%s', (_, header, frame, negotiated, wanted) => {
    assert.deepEqual(ids(receiveBreaches({ ...PLAIN, ...header }, frame, features(...negotiated))), wanted);
  });
});
