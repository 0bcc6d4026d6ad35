/** The walk over blocks says what the second decoder says, and stops where a file is cut. */
import { expect, test } from 'vitest';
import { captureChunks } from '../../../../src/readers/capture/capture.ts';
import {
  BlockWalk,
  epochOf,
  INTERFACE_BLOCK,
  PACKET_BLOCK,
  SECTION_BLOCK,
  STATISTICS_BLOCK,
} from '../../../../src/readers/capture/pcapng-blocks.ts';
import { FakeWorld } from '../fake-world.ts';
import { floodedFrame, vhostNetFrame } from '../journeys.ts';
import { decodePcapng, join } from '../pcapng-decoder.ts';

const EPOCH = '1767225600000000000';

function file(view: 'journey' | 'events', firstFrame = 0): Uint8Array {
  const w = new FakeWorld({ epochNs: EPOCH, firstFrame });
  for (let i = 0; i < 20; i++) vhostNetFrame(w, i * 1e9 + i, 60 + i);
  floodedFrame(w, 30e9);
  w.publish();
  return join(captureChunks(w.reader, { view, snaplen: 64 }));
}

test.each(['journey', 'events'] as const)('view=%s', (view) => {
  // Frame ids above 2^32 as well.
  for (const firstFrame of [0, 2 ** 32 + 5]) {
    const bytes = file(view, firstFrame);
    const decoded = decodePcapng(bytes);
    const walk = new BlockWalk(bytes);
    const counts = new Map<number, number>();
    let i = 0;
    let dropped = 0;
    while (walk.step()) {
      counts.set(walk.type, (counts.get(walk.type) ?? 0) + 1);
      if (walk.type === STATISTICS_BLOCK) dropped += walk.dropped();
      if (walk.type !== PACKET_BLOCK) continue;
      const row = decoded.packets[i++]!;
      expect(walk.interface).toBe(row.interfaceId);
      expect(BigInt(walk.timeNs(epochOf(EPOCH))) + BigInt(EPOCH)).toBe(row.time);
      expect(BigInt(walk.packetId())).toBe(row.packetId < 0n ? 0n : row.packetId);
      expect(walk.comment()).toBe(row.comments[0]);
      expect(walk.original).toBe(row.originalLength);
      expect(Buffer.from(walk.data)).toEqual(Buffer.from(row.data));
    }
    expect(walk.end).toBe(bytes.length);
    expect(counts.get(SECTION_BLOCK)).toBe(1);
    expect(counts.get(INTERFACE_BLOCK)).toBe(decoded.interfaces.length);
    expect(counts.get(PACKET_BLOCK)).toBe(decoded.packets.length);
    expect(dropped).toBe(decoded.statistics.reduce((sum, s) => sum + Number(s.dropped), 0));
  }
});

test('a cut-short file ends with its last whole block; what is no file has none', () => {
  const bytes = file('journey');
  const ends = [0];
  const whole = new BlockWalk(bytes);
  while (whole.step()) ends.push(whole.end);
  for (let size = 0; size < 4000; size++) {
    const walk = new BlockWalk(bytes.subarray(0, size));
    while (walk.step());
    expect(walk.end).toBe(ends.findLast((end) => end <= size));
  }
  const noise = new BlockWalk(new Uint8Array(100).fill(0x55));
  expect(noise.step()).toBe(false);
  expect(noise.end).toBe(0);
});
