/** TCP with segmentation by the device, from a guest through each back-end: to a guest, and to a cable. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import {
  type Captured,
  captureTcp,
  NO_CSUM,
  NO_GUEST_OFFLOADS,
  NO_GUEST_TSO,
  NO_MRG,
  NO_TSO,
  type Setting,
  streamOf,
  type TcpFrame,
  tcpFrame,
} from './tcp-capture.ts';
import { BACKENDS } from './world-driver.ts';

const BYTES = 700_001;
/** Ethernet, IP, TCP with timestamps. */
const HEADERS = { 4: 14 + 20 + 32, 6: 14 + 40 + 32 } as const;
const MSS = { 4: 1448, 6: 1428 } as const;

const framesOf = (list: readonly Uint8Array[]): TcpFrame[] => list.flatMap((bytes) => tcpFrame(bytes) ?? []);
const reference = new Map<number, Buffer>();
/** The stream as it is without any offload. */
function wanted(family: 4 | 6): Buffer {
  const plain = { backend: 'vhost-net', sender: NO_CSUM, receiver: NO_GUEST_OFFLOADS } as const;
  const made =
    reference.get(family) ?? streamOf(framesOf(captureTcp(plain, BYTES, family).received.map((r) => r.bytes)));
  reference.set(family, made);
  return made;
}
function good(c: Captured, family: 4 | 6): void {
  assert.equal(c.run.state, 'SUCCEEDED', c.run.reason);
  const { tcp } = c.run;
  assert.deepEqual([tcp!.bytes, tcp!.acknowledgedBytes, tcp!.mismatches, tcp!.open], [BYTES, BYTES, 0, 0]);
  assert.ok(c.world.status().conservation.holds);
  assert.ok(streamOf(framesOf(c.received.map((r) => r.bytes))).equals(wanted(family)));
}
const longest = (c: Captured): number => Math.max(...c.sent.map((e) => e.a));
/** Each frame but the last of a packet has gso_size bytes. */
function cutAsSaid(frames: readonly TcpFrame[], family: 4 | 6): void {
  const data = frames.filter((f) => f.payload.length > 0);
  const full = data.filter((f) => f.payload.length === MSS[family]).length;
  assert.ok(data.every((f) => f.payload.length <= MSS[family]));
  assert.ok(full / data.length > 0.9, `${full} of ${data.length}`);
}

describe.each(BACKENDS)('%s', (backend) => {
  describe.each([4, 6] as const)('IPv%i', (family) => {
    test('to a guest that takes large packets: nothing is cut, no checksum is written', () => {
      const c = captureTcp({ backend }, BYTES, family);
      good(c, family);
      assert.ok(longest(c) > 30_000);
      assert.equal(c.segments.length, 0);
      assert.ok(c.received.some((r) => r.bytes.length > 30_000));
    });

    test('to a guest without large packets and partial checksums: segments of gso_size, whole checksums', () => {
      const c = captureTcp({ backend, receiver: NO_GUEST_OFFLOADS }, BYTES, family);
      good(c, family);
      assert.ok(longest(c) > 30_000);
      const frames = framesOf(c.received.map((r) => r.bytes));
      assert.ok(frames.every((f) => f.good));
      assert.ok(c.received.every((r) => r.flags === 0 && r.bytes.length <= HEADERS[family] + MSS[family]));
      cutAsSaid(frames, family);
      assert.ok(c.segments.length > BYTES / MSS[family] - 60);
    });

    test.each([
      ['the NIC cuts', {}],
      ['the host cuts, the NIC writes checksums', { tso: false }],
      ['the host does both', { tso: false, txChecksum: false }],
    ] as const)('to the wire, %s: frames of the MTU with whole checksums', (_, cable) => {
      const c = captureTcp({ backend, cable }, BYTES, family);
      good(c, family);
      assert.ok(longest(c) > 30_000);
      const frames = framesOf(c.onCable);
      assert.ok(streamOf(frames).equals(wanted(family)));
      assert.ok(frames.every((f) => f.good));
      assert.ok(c.onCable.every((f) => f.length <= HEADERS[family] + MSS[family]));
      cutAsSaid(frames, family);
    });
  });

  const settings: readonly (readonly [string, Partial<Setting>])[] = [
    ['CSUM of the sender', { sender: NO_CSUM }],
    ['TSO of the sender', { sender: NO_TSO }],
    ['TSO of the receiver', { receiver: NO_GUEST_TSO }],
    ['GUEST_CSUM of the receiver', { receiver: NO_GUEST_OFFLOADS }],
    ['MRG_RXBUF of both', { sender: NO_MRG, receiver: NO_MRG }],
    ['MRG_RXBUF and large packets of the receiver', { receiver: { ...NO_MRG, ...NO_GUEST_TSO } }],
    ['everything', { sender: { ...NO_CSUM, ...NO_MRG }, receiver: { ...NO_GUEST_OFFLOADS, ...NO_MRG } }],
  ];
  test.each(settings)('the stream is the same without %s', (_, setting) => {
    for (const cable of [undefined, {}])
      good(captureTcp({ backend, ...setting, ...(cable ? { cable } : {}) }, BYTES), 4);
  });
});
