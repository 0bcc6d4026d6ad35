/** Files of a capture, their index and their recovery, from a world written by hand. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { captureChunks } from '../../../../src/readers/capture/capture.ts';
import { BlockWalk, epochOf, PACKET_BLOCK } from '../../../../src/readers/capture/pcapng-blocks.ts';
import { allFilesBytes } from '../../../../src/server/captures/capture-download.ts';
import { CaptureFiles } from '../../../../src/server/captures/capture-files.ts';
import type { DiskQuota, FileLimits, StopLimits } from '../../../../src/server/captures/capture-job.ts';
import { findCapturedFrame } from '../../../../src/server/captures/captured-frame.ts';
import { FileIndex, indexName } from '../../../../src/server/captures/file-index.ts';
import { folderBytes, recoverFile } from '../../../../src/server/captures/file-recovery.ts';
import { FakeWorld } from '../../readers/fake-world.ts';
import { floodedFrame, vhostNetFrame } from '../../readers/journeys.ts';
import { decodePcapng, join as joined } from '../../readers/pcapng-decoder.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ringside-files-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const NO_FILE: FileLimits = { maxBytes: Infinity, maxPackets: Infinity, maxFiles: Infinity, ring: false };
const NO_STOP: StopLimits = {
  packets: Infinity,
  bytes: Infinity,
  durationNs: Infinity,
  wallMs: Infinity,
  idleMs: Infinity,
};
const EPOCH = '1767225600000000000';

/** A world of some frames, with an interface that is declared in the middle, and its capture in chunks. */
function chunksOf(frames: number): Uint8Array[] {
  const w = new FakeWorld({ epochNs: EPOCH, eventCapacity: 1 << 17, byteCapacity: 1 << 20 });
  for (let i = 0; i < frames; i++) {
    vhostNetFrame(w, i * 10_000, 60 + (i % 50));
    if (i === frames >> 1) floodedFrame(w, i * 10_000 + 500);
  }
  w.publish();
  return [...captureChunks(w.reader, { view: 'journey' })];
}
interface Written {
  readonly files: CaptureFiles;
  readonly disk: DiskQuota;
}
function write(
  chunks: readonly Uint8Array[],
  limits: { file?: Partial<FileLimits>; stop?: Partial<StopLimits>; disk?: number } = {},
): Written {
  const disk = { used: new BigInt64Array(new SharedArrayBuffer(8)), limit: limits.disk ?? 1e12 };
  const files = new CaptureFiles({
    folder,
    epoch: epochOf(EPOCH),
    file: { ...NO_FILE, ...limits.file },
    stop: { ...NO_STOP, ...limits.stop },
    disk,
    startNs: 0,
  });
  const [header = new Uint8Array(0), ...rest] = chunks;
  files.begin(header);
  for (const chunk of rest) if (files.full === null) files.write(chunk);
  files.close();
  return { files, disk };
}
const contentOf = (name: string): Buffer => readFileSync(join(folder, name));
const dataFiles = (): string[] => readdirSync(folder).filter((name) => name.endsWith('.pcapng'));
/** The packet blocks of a file, as they are. */
function packetsOf(file: Uint8Array): Buffer[] {
  const walk = new BlockWalk(file);
  const out: Buffer[] = [];
  while (walk.step()) if (walk.type === PACKET_BLOCK) out.push(Buffer.from(file.subarray(walk.at, walk.end)));
  return out;
}

test('one file has what came in; its index covers it without a gap', () => {
  const chunks = chunksOf(2000);
  const { files, disk } = write(chunks);
  expect(contentOf('00001.pcapng')).toEqual(Buffer.from(joined(chunks)));
  const [facts] = files.list();
  const rows = decodePcapng(joined(chunks)).packets;
  expect(facts).toMatchObject({ packets: rows.length, firstFrame: 1, lastFrame: 2002, sealed: true });
  expect(facts?.bytes).toBe(statSync(join(folder, '00001.pcapng')).size);
  const index = new FileIndex(contentOf('00001.pcapng.idx'), facts?.bytes ?? 0);
  expect(index.records).toBeGreaterThan(5);
  expect(index.end).toBe(facts?.bytes);
  let packets = 0;
  for (let i = 0; i < index.records; i++) packets += index.group(i).packets;
  expect(packets).toBe(rows.length);
  expect(Number(disk.used[0])).toBe(folderBytes(folder));
});

test('files are cut at their limits, each is whole, and together they are the capture', async () => {
  const chunks = chunksOf(500);
  const all = packetsOf(joined(chunks));
  for (const file of [{ maxPackets: 333 }, { maxBytes: 50_000 }]) {
    const { files } = write(chunks, { file });
    const list = files.list();
    expect(list.length).toBeGreaterThan(3);
    const rows = list.flatMap((f) => {
      const content = contentOf(f.name);
      const decoded = decodePcapng(content);
      expect(decoded.packets.length).toBe(f.packets);
      if ('maxPackets' in file) expect(f.packets).toBeLessThanOrEqual(333);
      else expect(f.bytes).toBeLessThanOrEqual(50_000 + 2000);
      return packetsOf(content);
    });
    expect(Buffer.concat(rows)).toEqual(Buffer.concat(all));
    const parts: Uint8Array[] = [];
    for await (const part of await allFilesBytes(folder, list)) parts.push(part);
    expect(Buffer.concat(parts)).toEqual(Buffer.from(joined(chunks)));
    rmSync(folder, { recursive: true });
    folder = mkdtempSync(join(tmpdir(), 'ringside-files-'));
  }
});

test('a ring of files keeps the newest; without a ring the capture is full', () => {
  const chunks = chunksOf(500);
  const all = packetsOf(joined(chunks));
  const ring = write(chunks, { file: { maxPackets: 300, maxFiles: 3, ring: true } });
  expect(ring.files.full).toBe(null);
  const list = ring.files.list();
  expect(list.map((f) => f.name)).toEqual(dataFiles());
  expect(list.length).toBe(3);
  expect(Buffer.concat(list.flatMap((f) => packetsOf(contentOf(f.name))))).toEqual(
    Buffer.concat(all.slice(-list.reduce((n, f) => n + f.packets, 0))),
  );
  expect(ring.files.packets).toBe(all.length);
  expect(ring.files.removedFiles).toBe(Math.ceil(all.length / 300) - 3);
  expect(Number(ring.disk.used[0])).toBe(folderBytes(folder));

  rmSync(folder, { recursive: true });
  folder = mkdtempSync(join(tmpdir(), 'ringside-files-'));
  const bounded = write(chunks, { file: { maxPackets: 300, maxFiles: 3 } });
  expect(bounded.files.full).toBe('FILES');
  expect(Buffer.concat(bounded.files.list().flatMap((f) => packetsOf(contentOf(f.name))))).toEqual(
    Buffer.concat(all.slice(0, 900)),
  );
});

test('stops at exactly the row that was asked for', () => {
  const chunks = chunksOf(500);
  const all = packetsOf(joined(chunks));
  const cases: [Partial<StopLimits>, string][] = [
    [{ packets: 1 }, 'PACKETS'],
    [{ packets: 777 }, 'PACKETS'],
    [{ bytes: 30_000 }, 'BYTES'],
    [{ durationNs: 1_234_567 }, 'DURATION'],
  ];
  for (const [stop, reason] of cases) {
    const { files } = write(chunks, { stop });
    expect(files.full).toBe(reason);
    const content = contentOf('00001.pcapng');
    const rows = packetsOf(content);
    expect(Buffer.concat(rows)).toEqual(Buffer.concat(all.slice(0, rows.length)));
    const next = decodePcapng(joined(chunks)).packets[rows.length];
    if (stop.packets !== undefined) expect(rows.length).toBe(stop.packets);
    if (stop.bytes !== undefined) {
      expect(content.length).toBeLessThanOrEqual(stop.bytes);
      expect(content.length + (all[rows.length]?.length ?? 0)).toBeGreaterThan(stop.bytes);
    }
    if (stop.durationNs !== undefined) {
      expect(files.list()[0]?.lastNs).toBeLessThanOrEqual(stop.durationNs);
      expect(Number((next?.time ?? 0n) - BigInt(EPOCH))).toBeGreaterThan(stop.durationNs);
    }
    rmSync(folder, { recursive: true });
    folder = mkdtempSync(join(tmpdir(), 'ringside-files-'));
  }
});

test('a full disk ends it on a whole row, with facts and index that fit', () => {
  const chunks = chunksOf(3000);
  const limit = 1_000_000;
  const { files, disk } = write(chunks, { disk: limit });
  expect(files.full).toBe('DISK_LIMIT');
  expect(folderBytes(folder)).toBeLessThanOrEqual(limit);
  expect(Number(disk.used[0])).toBe(folderBytes(folder));
  const [facts] = files.list();
  const content = contentOf('00001.pcapng');
  expect(decodePcapng(content).packets.length).toBe(facts?.packets);
  expect(files.packets).toBe(facts?.packets);
  expect(new FileIndex(contentOf('00001.pcapng.idx'), content.length).end).toBe(content.length);
});

test('cut at any byte, a file is trimmed to its last whole row, and the index is completed', () => {
  write(chunksOf(12));
  const path = join(folder, '00001.pcapng');
  const whole = contentOf('00001.pcapng');
  const ends = [0];
  const walk = new BlockWalk(whole);
  while (walk.step()) ends.push(walk.end);
  // Around every end of a block, and here and there within.
  const near = (size: number): boolean => ends.some((end) => Math.abs(end - size) <= 4);
  for (let size = 0; size <= whole.length; size++) {
    if (!near(size) && size % 61 !== 0) continue;
    writeFileSync(path, whole.subarray(0, size));
    const facts = recoverFile(folder, '00001.pcapng', epochOf(EPOCH));
    const end = ends.findLast((e) => e <= size) ?? 0;
    expect(facts.bytes, `cut at ${size}`).toBe(end);
    expect(statSync(path).size).toBe(end);
    expect(facts.packets).toBe(packetsOf(whole.subarray(0, end)).length);
  }
});

test('an index that is cut, missing or from elsewhere is made again', async () => {
  const chunks = chunksOf(2000);
  const { files } = write(chunks);
  const expected = files.list();
  const path = indexName(join(folder, '00001.pcapng'));
  const good = readFileSync(path);
  const damages: (() => void)[] = [
    () => truncateSync(path, good.length - 1),
    () => truncateSync(path, 16 + 48 * 3 + 20),
    () => truncateSync(path, 3),
    () => rmSync(path),
    () => writeFileSync(path, Buffer.alloc(good.length, 0x55)),
    () => writeFileSync(path, Buffer.concat([good, good])),
  ];
  for (const damage of damages) {
    writeFileSync(path, good);
    damage();
    expect(recoverFile(folder, '00001.pcapng', epochOf(EPOCH))).toEqual(expected[0]);
    const index = new FileIndex(readFileSync(path), expected[0]?.bytes ?? 0);
    expect(index.end).toBe(expected[0]?.bytes);
    expect((await findCapturedFrame(folder, expected, 1500)).hops.length).toBeGreaterThan(5);
  }
});

test('rows of a frame are found in every file that has some, and nowhere else', async () => {
  const chunks = chunksOf(1000);
  const { files } = write(chunks, { file: { maxPackets: 1000 } });
  const rows = decodePcapng(joined(chunks)).packets;
  for (const frame of [1, 2, 126, 500, 501, 502, 503, 1002]) {
    const expected = rows.filter((row) => row.packetId === BigInt(frame));
    const { hops } = await findCapturedFrame(folder, files.list(), frame);
    expect(hops.map((h) => h.hex)).toEqual(expected.map((row) => Buffer.from(row.data).toString('hex')));
    expect(hops.map((h) => h.ns)).toEqual(expected.map((row) => Number(row.time - BigInt(EPOCH))));
    for (const [i, hop] of hops.entries()) {
      const comment = expected[i]?.comments[0] ?? '';
      expect(comment).toContain(`${hop.text} | hop=${hop.place} event=${hop.event} ctx=${hop.context} ns=${hop.ns} `);
      expect(comment).toContain(` cost=${hop.costNs}`);
    }
  }
  const dropped = await findCapturedFrame(folder, files.list(), 502);
  expect(dropped.outcome).toMatch(/^dropped:/);
  expect((await findCapturedFrame(folder, files.list(), 5000)).hops).toEqual([]);
});
