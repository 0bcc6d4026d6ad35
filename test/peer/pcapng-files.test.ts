/**
 * Every kind of capture file in Wireshark's command-line programs: read, counted, rewritten and merged without a word on
 * stderr; and of a file that was cut anywhere, every whole block, with the message for a cut file and nothing else.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { afterAll, expect } from 'vitest';
import type { RingReader } from '../../src/engine/event-ring.ts';
import { Capture, type CaptureOptions, captureChunks } from '../../src/readers/capture/capture.ts';
import { FakeWorld } from '../unit/readers/fake-world.ts';
import { floodedFrame, vhostNetFrame } from '../unit/readers/journeys.ts';
import { type Decoded, decodePcapng, join } from '../unit/readers/pcapng-decoder.ts';
import { ranWorld } from '../unit/readers/worlds.ts';
import { requirePeer } from './peers.ts';

const FULL = process.env['RINGSIDE_FULL'] === '1';
const folder = mkdtempSync(joinPath(tmpdir(), 'ringside-pcapng-files-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => joinPath(folder, name);

interface Ran {
  readonly status: number;
  readonly stdout: string;
  /** Without what the programs say to root. */
  readonly stderr: string;
}
function run(program: string, ...args: readonly string[]): Ran {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 30 });
  const said = stderr.split('\n').filter((line) => !line.startsWith('Running as user "root"'));
  return { status: status ?? -1, stdout, stderr: said.join('\n') };
}
/** Output of a program that has nothing to complain about. */
function quiet(program: string, ...args: readonly string[]): string {
  const { status, stdout, stderr } = run(program, ...args);
  expect([program, status, stderr]).toEqual([program, 0, '']);
  return stdout;
}
const FIELDS = ['interface_name', 'packet_id', 'time_epoch', 'len', 'cap_len', 'comment'];
function rows(path: string): string[] {
  const fields = FIELDS.flatMap((field) => ['-e', `frame.${field}`]);
  return quiet('tshark', '-n', '-r', path, '-T', 'fields', ...fields)
    .split('\n')
    .slice(0, -1);
}
const counted = (path: string): number =>
  Number(/Number of packets: +(\d+)/.exec(quiet('capinfos', '-c', '-M', path))?.[1]);

function overwritten(): FakeWorld {
  const w = new FakeWorld({ eventCapacity: 1 << 14 });
  for (let i = 0; i < 3000; i++) vhostNetFrame(w, i * 1000);
  w.publish();
  return w;
}
function drops(): FakeWorld {
  const w = new FakeWorld();
  for (let i = 0; i < 50; i++) {
    vhostNetFrame(w, i * 10_000, 60 + 29 * i);
    floodedFrame(w, i * 10_000 + 5000, 61 + i);
  }
  w.publish();
  return w;
}
const empty = (): FakeWorld => new FakeWorld();
const recorder = { events: 1 << 16, bytes: '4MiB', descriptors: true };
const real = (preset: string) => ranWorld(preset, { count: 30, frameSize: 200 }, recorder);

const FILES: readonly (readonly [name: string, world: () => { reader: RingReader }, options: CaptureOptions])[] = [
  ['wire', () => real('vhost-net'), { view: 'wire' }],
  ['journey', () => real('virtio-net'), { view: 'journey' }],
  ['events', () => real('vhost-user'), { view: 'events' }],
  ['points', drops, { view: 'wire', points: ['*/tx0', 'tap-*'] }],
  ['snaplen', drops, { view: 'journey', snaplen: 61 }],
  ['events-snaplen', () => real('vhost-net'), { view: 'events', snaplen: 13 }],
  ['filter', drops, { view: 'journey', filter: { role: 'dropped' } }],
  ['events-filter', () => real('vhost-net'), { view: 'events', filter: { events: 'kvm.*,virtq.kick' } }],
  ['drops', drops, { view: 'journey' }],
  ['overwritten', overwritten, { view: 'journey' }],
  ['overwritten-part', overwritten, { view: 'wire', fromEvent: 10 }],
  ['events-overwritten', overwritten, { view: 'events' }],
  ['empty', empty, { view: 'journey' }],
  ['empty-events', empty, { view: 'events' }],
];

requirePeer(
  'tshark',
  'capinfos',
  'editcap',
  'mergecap',
)(
  'every kind of whole file is read without a word',
  () => {
    const paths: string[] = [];
    let total = 0;
    for (const [name, world, options] of FILES) {
      const bytes = join(captureChunks(world().reader, { application: 'Ringside test', ...options }));
      const file = decodePcapng(bytes);
      const path = at(`${name}.pcapng`);
      writeFileSync(path, bytes);
      expect(file.packets.length === 0, name).toBe(name.startsWith('empty'));
      expect(counted(path), name).toBe(file.packets.length);
      expect(readAs(path), name).toEqual(asFields(file));
      const rewritten = at(`${name}-rewritten.pcapng`);
      quiet('editcap', path, rewritten);
      expect(counted(rewritten)).toBe(file.packets.length);
      expect(withoutStatistics(readFileSync(rewritten))).toEqual(file.packets);
      paths.push(path);
      total += file.packets.length;
    }
    // rows of frames and rows of events in one file as well
    quiet('mergecap', '-w', at('merged.pcapng'), ...paths);
    expect(counted(at('merged.pcapng'))).toBe(total);
    expect(rows(at('merged.pcapng')).length).toBe(total);
  },
  120_000,
);

/** Packets of a file that another program wrote: its section and interfaces may say more, the rows may not say less. */
function withoutStatistics(bytes: Uint8Array): Decoded['packets'] {
  return decodePcapng(Uint8Array.from(bytes)).packets;
}
function asFields(file: Decoded): string[][] {
  return file.packets.map((p) => [
    file.interfaces[p.interfaceId]!.name,
    p.packetId === 0n ? '' : String(Number(p.packetId)),
    `${p.time / 1_000_000_000n}.${String(p.time % 1_000_000_000n).padStart(9, '0')}`,
    String(p.originalLength),
    String(p.data.length),
    p.comments.join(','),
  ]);
}
/** Packet ids are shown in decimal or in hexadecimal, by version. */
function readAs(path: string): string[][] {
  return rows(path).map((line) =>
    line.split('\t').map((value, i) => (FIELDS[i] === 'packet_id' && value !== '' ? String(Number(value)) : value)),
  );
}

/** Where the blocks of a file end, and how many rows are whole up to there. */
function blocksOf(bytes: Uint8Array): { end: number; type: number; rows: number }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const blocks: { end: number; type: number; rows: number }[] = [];
  let whole = 0;
  for (let start = 0; start < bytes.length; ) {
    const type = view.getUint32(start, true);
    start += view.getUint32(start + 4, true);
    if (type === 6) whole++;
    blocks.push({ end: start, type, rows: whole });
  }
  return blocks;
}
const CUT_SHORT =
  /^(tshark|editcap): The file "[^"]+" appears to have been cut short in the middle of a packet[^\n]*\.\n$/;

for (const view of ['journey', 'events'] as const) {
  requirePeer('tshark', 'editcap')(
    `${view}: of a cut file every whole row is read, and only the cut is complained of`,
    () => {
      const w = new FakeWorld();
      for (let i = 0; i < 2; i++) vhostNetFrame(w, i * 10_000, 60 + i);
      w.publish();
      const bytes = join(captureChunks(w.reader, { view, points: ['a/net0', 'tap-*'] }));
      const all = decodePcapng(bytes).packets;
      const blocks = blocksOf(bytes);
      const ends = new Map(blocks.map((b) => [b.end, b.rows]));
      // Before the section header and an interface are whole there is nothing that a file could be made of.
      const first = blocks[1]!.end;
      const cut = at('cut.pcapng');
      const rest = at('rest.pcapng');
      const near = new Set(blocks.slice(0, -1).flatMap((b) => [b.end - 1, b.end, b.end + 1]));
      let reads = 0;
      for (let length = first; length < bytes.length; length++) {
        if (!FULL && length % 37 !== 0 && !near.has(length)) continue;
        writeFileSync(cut, bytes.subarray(0, length));
        const whole = ends.get(length);
        const expected = whole ?? blocks.findLast((b) => b.end < length)!.rows;
        const edited = run('editcap', cut, rest);
        if (whole === undefined) expect(edited.stderr, `cut at ${length}`).toMatch(CUT_SHORT);
        else expect([edited.status, edited.stderr], `cut at ${length}`).toEqual([0, '']);
        expect(withoutStatistics(readFileSync(rest)), `cut at ${length}`).toEqual(all.slice(0, expected));
        if (!near.has(length) || (!FULL && reads >= 8)) continue;
        reads++;
        const shown = run('tshark', '-n', '-r', cut, '-T', 'fields', '-e', 'frame.number');
        expect(shown.stdout.split('\n').length - 1, `tshark, cut at ${length}`).toBe(expected);
        if (whole === undefined) expect(shown.stderr).toMatch(CUT_SHORT);
        else expect([shown.status, shown.stderr]).toEqual([0, '']);
      }
      expect(reads).toBeGreaterThanOrEqual(8);
    },
    600_000,
  );
}

requirePeer(
  'tshark',
  'capinfos',
  'editcap',
  'mergecap',
)(
  `${FULL ? '1,000,000' : '10,000'} frames in one file`,
  () => {
    const frames = FULL ? 1_000_000 : 10_000;
    const w = new FakeWorld({ eventCapacity: 1 << 16, byteCapacity: 1 << 24 });
    const path = at('many.pcapng');
    const file = openSync(path, 'w');
    const capture = new Capture(w.reader, { view: 'wire', points: ['a/net0', 'b/net0'] });
    writeSync(file, capture.header());
    for (let i = 0; i < frames; i++) {
      vhostNetFrame(w, i * 1000, 64);
      if (i % 1000 !== 999) continue;
      w.publish();
      for (const chunk of capture.scan()) writeSync(file, chunk);
    }
    for (const chunk of capture.flush()) writeSync(file, chunk);
    writeSync(file, capture.trailer());
    closeSync(file);
    expect(counted(path)).toBe(2 * frames);
    const ids = quiet('tshark', '-n', '-r', path, '-T', 'fields', '-e', 'frame.packet_id').split('\n').slice(0, -1);
    expect(ids.length).toBe(2 * frames);
    expect(new Set(ids.map(Number)).size).toBe(frames);
    quiet('editcap', path, at('many-rewritten.pcapng'));
    expect(counted(at('many-rewritten.pcapng'))).toBe(2 * frames);
    quiet('mergecap', '-w', at('many-merged.pcapng'), path, path);
    expect(counted(at('many-merged.pcapng'))).toBe(4 * frames);
    expect(statSync(path).size).toBeGreaterThan(2 * frames * 200);
  },
  900_000,
);
