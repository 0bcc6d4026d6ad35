/**
 * Exports as the programs read them that users open them with: tshark and capinfos for captures, editcap for what becomes
 * of them when they are rewritten, promtool for metrics.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { afterAll, expect } from 'vitest';
import * as E from '../../src/engine/events.ts';
import { type CaptureOptions, captureChunks } from '../../src/readers/capture/capture.ts';
import { worldMetrics } from '../../src/readers/metrics/prometheus.ts';
import { FakeWorld } from '../unit/readers/fake-world.ts';
import { floodedFrame, vhostNetFrame } from '../unit/readers/journeys.ts';
import { decodePcapng, join } from '../unit/readers/pcapng-decoder.ts';
import { requirePeer } from './peers.ts';

const folder = mkdtempSync(joinPath(tmpdir(), 'ringside-pcapng-'));
afterAll(() => rmSync(folder, { recursive: true }));

function run(program: string, args: readonly string[], input?: string): string {
  const result = spawnSync(program, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    ...(input === undefined ? {} : { input }),
  });
  if (result.status !== 0)
    throw new Error(`${program} ${args.join(' ')}: ${result.status}\n${result.stdout}${result.stderr}`);
  return result.stdout;
}
let files = 0;
function save(w: FakeWorld, options: CaptureOptions): string {
  const path = joinPath(folder, `${files++}.pcapng`);
  writeFileSync(path, join(captureChunks(w.reader, { application: 'Ringside test', ...options })));
  return path;
}
/** Rows of fields, as tshark shows them. */
function fields(path: string, names: readonly string[], more: readonly string[] = []): string[][] {
  const args = ['-r', path, '-n', '-T', 'fields', ...names.flatMap((n) => ['-e', n]), ...more];
  return run('tshark', args)
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split('\t'));
}

/** An Ethernet frame with IPv4 and TCP; checksums are left out. */
function tcpFrame(fromA: boolean, seq: number, ack: number, flags: number, payload: number): Uint8Array {
  const bytes = new Uint8Array(54 + payload).fill(0x61);
  const v = new DataView(bytes.buffer);
  bytes.set([0x52, 0x54, 0, 0, 0, fromA ? 2 : 1, 0x52, 0x54, 0, 0, 0, fromA ? 1 : 2, 8, 0, 0x45, 0]);
  v.setUint16(16, 40 + payload);
  bytes.set([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, fromA ? 1 : 2, 10, 0, 0, fromA ? 2 : 1], 18);
  v.setUint16(34, fromA ? 40000 : 80);
  v.setUint16(36, fromA ? 80 : 40000);
  v.setUint32(38, seq);
  v.setUint32(42, ack);
  bytes.set([0x50, flags, 0xff, 0xff, 0, 0, 0, 0], 46);
  return bytes;
}
/** A short TCP conversation, each segment seen at four hops. */
function conversation(): FakeWorld {
  const w = new FakeWorld();
  const segments = [
    tcpFrame(true, 100, 0, 0x02, 0),
    tcpFrame(false, 500, 101, 0x12, 0),
    tcpFrame(true, 101, 501, 0x10, 0),
    tcpFrame(true, 101, 501, 0x18, 40),
    tcpFrame(false, 501, 141, 0x18, 60),
    tcpFrame(true, 141, 561, 0x10, 0),
  ];
  segments.forEach((bytes, i) => {
    const t = i * 100_000;
    const f = w.newFrame();
    w.event(0, t, E.PACKET_BORN, 1, f, bytes.length);
    w.version(0, t, 1, f, bytes);
    w.event(0, t + 10, E.GUEST_XMIT, 1, f, bytes.length);
    w.event(1, t + 1000, E.TAP_XMIT, 6, f, bytes.length);
    w.event(1, t + 1100, E.DP_INGRESS, 8, f, bytes.length);
    w.event(1, t + 1200, E.DP_OUTPUT, 9, f, bytes.length);
  });
  w.publish();
  return w;
}
function traffic(): FakeWorld {
  const w = new FakeWorld();
  for (let i = 0; i < 100; i++) vhostNetFrame(w, i * 10_000, 60 + i * 14);
  floodedFrame(w, 2_000_000);
  w.publish();
  return w;
}

requirePeer('tshark')('tshark reads every row as it was written', () => {
  const w = traffic();
  const path = save(w, { view: 'journey' });
  const d = decodePcapng(Uint8Array.from(readFileSync(path)));
  const names = [
    'frame.interface_name',
    'frame.interface_description',
    'frame.time_epoch',
    'frame.packet_id',
    'frame.len',
    'frame.interface_queue',
    'frame.packet_flags_direction',
    'frame.comment',
    'eth.type',
  ];
  const rows = fields(path, names, ['-E', 'aggregator=|']);
  expect(rows.length).toBe(d.packets.length);
  expect(rows.length).toBeGreaterThan(800);
  rows.forEach((row, i) => {
    const p = d.packets[i]!;
    const nic = d.interfaces[p.interfaceId]!;
    expect(row.slice(0, 2)).toEqual([nic.name, nic.description]);
    expect(row[2]).toBe(`${p.time / 1_000_000_000n}.${String(p.time % 1_000_000_000n).padStart(9, '0')}`);
    expect(Number(row[3])).toBe(Number(p.packetId));
    expect(Number(row[4])).toBe(p.originalLength);
    expect(row[5] === '' ? null : Number(row[5])).toBe(p.queue);
    expect(Number(row[6])).toBe(p.flags & 3);
    expect(row[7]).toBe(p.comments.join('|'));
    expect(row[8]).toBe('0x88b5');
  });
});

requirePeer('tshark')('the packet id follows a frame over its hops, in time order, by a display filter', () => {
  const path = save(traffic(), { view: 'journey' });
  const rows = fields(path, ['frame.interface_name', 'frame.time_relative'], ['-Y', 'frame.packet_id == 42']);
  expect(rows.map((r) => r[0])).toEqual([
    'a/net0',
    'a/net0/tx0',
    'tap-a',
    'br0/a.net0',
    'br0/b.net0',
    'tap-b',
    'b/net0/rx0',
    'b/net0',
  ]);
  const times = rows.map((r) => Number(r[1]));
  expect(times).toEqual([...times].sort((x, y) => x - y));
  expect(fields(path, ['frame.packet_id'], ['-Y', 'frame.comment contains "drop="']).length).toBe(2);
});

requirePeer('tshark')('the wire view has no false retransmissions; the journey view is why it exists', () => {
  const w = conversation();
  const flagged = (path: string) => fields(path, ['frame.number'], ['-Y', 'tcp.analysis.flags']).length;
  const wire = save(w, { view: 'wire' });
  expect(fields(wire, ['tcp.stream', 'tcp.len']).map((r) => r[1])).toEqual(['0', '0', '0', '40', '60', '0']);
  expect(flagged(wire)).toBe(0);
  expect(flagged(save(w, { view: 'journey' }))).toBeGreaterThan(5);
});

requirePeer('tshark')('a capture streams into a live tshark', () => {
  const path = save(traffic(), { view: 'journey' });
  const script = `cat '${path}' | tshark -n -r - -T fields -e frame.packet_id | wc -l`;
  expect(Number(run('sh', ['-c', script]))).toBe(decodePcapng(Uint8Array.from(readFileSync(path))).packets.length);
});

requirePeer('capinfos')('capinfos shows the section, the hops with their statistics, and nanoseconds', () => {
  const path = save(traffic(), { view: 'journey' });
  const text = run('capinfos', [path]);
  expect(text).toMatch(/Capture hardware: +emulated virtualization host/);
  expect(text).toMatch(/Capture oper-sys: +virtual time/);
  expect(text).toMatch(/Capture application: +Ringside test/);
  expect(text).toMatch(/topology=t1 seed=1 view=journey/);
  expect(text).toMatch(/costProfile=haswell-2\.4 costsHash=[0-9a-f]{16} costOverrides=0/);
  expect(text).toMatch(/File timestamp precision: +nanoseconds \(9\)/);
  expect(text).toMatch(/Number of interfaces in file: 11/);
  expect(text).toMatch(/Name = a\/net0\/tx0/);
  expect(text.match(/Number of stat entries = 1/g)?.length).toBe(11);
  expect(text).toMatch(/Strict time order: +True/);
});

requirePeer('editcap', 'tshark')('what editcap rewrites is still whole', () => {
  const path = save(traffic(), { view: 'journey' });
  const names = [
    'frame.interface_name',
    'frame.packet_id',
    'frame.interface_queue',
    'frame.comment',
    'frame.time_epoch',
  ];
  const rewritten = joinPath(folder, 'rewritten.pcapng');
  run('editcap', [path, rewritten]);
  expect(fields(rewritten, names)).toEqual(fields(path, names));
  const old = joinPath(folder, 'old.pcap');
  run('editcap', ['-F', 'nsecpcap', path, old]);
  expect(fields(old, ['frame.time_epoch', 'frame.len'])).toEqual(fields(path, ['frame.time_epoch', 'frame.len']));
});

requirePeer('promtool')('promtool has nothing to say about the metrics', () => {
  const result = spawnSync('promtool', ['check', 'metrics'], {
    input: worldMetrics([{ reader: traffic().reader }]),
    encoding: 'utf8',
  });
  expect(result.stdout + result.stderr).toBe('');
  expect(result.status).toBe(0);
});
