import { afterEach, expect, test, vi } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import {
  Capture,
  type CaptureOptions,
  captureChunks,
  UnknownPointError,
} from '../../../../src/readers/capture/capture.ts';
import { CHUNK_BYTES } from '../../../../src/readers/capture/row-output.ts';
import { FakeWorld, frameBytes } from '../fake-world.ts';
import { floodedFrame, vhostNetFrame } from '../journeys.ts';
import { type Decoded, decodePcapng, join } from '../pcapng-decoder.ts';

const EPOCH = 1767225600000000000n;
afterEach(() => {
  vi.restoreAllMocks();
});
function capture(w: FakeWorld, options: CaptureOptions): Decoded {
  return decodePcapng(join(captureChunks(w.reader, options)));
}
const names = (d: Decoded, packets = d.packets): string[] => packets.map((p) => d.interfaces[p.interfaceId]!.name);

test('one interface per hop, sorted by order, declared before anything happened', () => {
  const w = new FakeWorld();
  const d = capture(w, { view: 'journey' });
  expect(d.interfaces.map((i) => i.name)).toEqual([
    'a/net0',
    'a/net0/tx0',
    'b/net0/tx0',
    'tap-a',
    'br0/a.net0',
    'br0/b.net0',
    'tap-b',
    'a/net0/rx0',
    'b/net0/rx0',
    'b/net0',
  ]);
  expect(new Set(d.interfaces.map((i) => `${i.linkType} ${i.snaplen} ${i.resolution}`))).toEqual(
    new Set(['1 262144 9']),
  );
  expect(d.interfaces[0]!.description).toBe('what a/net0 is');
  expect(d.packets).toEqual([]);
  expect(d.statistics.map((s) => [s.received, s.dropped])).toEqual(d.interfaces.map(() => [0n, 0n]));
});

test('a frame is on every hop it passed, with time, direction, queue, bytes and cost', () => {
  const w = new FakeWorld();
  const f = vhostNetFrame(w, 1_000_000);
  w.publish();
  const d = capture(w, { view: 'journey' });
  expect(names(d)).toEqual([
    'a/net0',
    'a/net0/tx0',
    'tap-a',
    'br0/a.net0',
    'br0/b.net0',
    'tap-b',
    'b/net0/rx0',
    'b/net0',
  ]);
  expect(d.packets.map((p) => p.time - EPOCH)).toEqual([
    1000100n,
    1000150n,
    1003300n,
    1003400n,
    1003500n,
    1003600n,
    1005300n,
    1008000n,
  ]);
  expect(d.packets.map((p) => p.flags)).toEqual([2, 2, 1, 1, 2, 2, 1, 1]);
  expect(d.packets.map((p) => p.queue)).toEqual([null, 1, null, null, null, null, 0, null]);
  expect(new Set(d.packets.map((p) => p.packetId))).toEqual(new Set([BigInt(f)]));
  for (const p of d.packets) expect(p.data).toEqual(frameBytes(f, 60));
  expect(d.packets[2]!.comments).toEqual([
    'a frame written to the tap by its backend enters the host stack | ' +
      'hop=tap-a event=tap.xmit ctx=vhost-1201 ns=1003300 cost=1250 wait=1900 copy=60 copies=1',
  ]);
  // Costs and waits of all rows are the time from birth to the last row.
  const sum = d.packets
    .flatMap((p) => [...p.comments[0]!.matchAll(/ (?:cost|wait)=(\d+)/g)])
    .reduce((n, m) => n + Number(m[1]), 0);
  expect(sum).toBe(8000);
  expect(d.statistics.find((s) => d.interfaces[s.interfaceId]!.name === 'tap-a')!.received).toBe(1n);
});

test('wire view shows what enters the bridge, or the hops that points name', () => {
  const w = new FakeWorld();
  vhostNetFrame(w, 1000);
  floodedFrame(w, 50_000);
  w.publish();
  const wire = capture(w, { view: 'wire' });
  expect(wire.interfaces.map((i) => i.name)).toEqual(['br0/a.net0', 'br0/b.net0']);
  expect(names(wire)).toEqual(['br0/a.net0', 'br0/a.net0']);
  expect(wire.statistics.map((s) => [s.received, s.dropped])).toEqual([
    [2n, 0n],
    [0n, 0n],
  ]);
  const points = capture(w, { view: 'wire', points: ['b/net0', '*/tx0'] });
  expect(points.interfaces.map((i) => i.name)).toEqual(['a/net0/tx0', 'b/net0/tx0', 'b/net0']);
  expect(names(points)).toEqual(['a/net0/tx0', 'b/net0']);
});

test('an unknown point is refused at once, with the list of valid ones', () => {
  const w = new FakeWorld();
  try {
    captureChunks(w.reader, { view: 'wire', points: ['a/net0', 'nowhere*'] });
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(UnknownPointError);
    expect((error as UnknownPointError).point).toBe('nowhere*');
    expect((error as UnknownPointError).valid).toContain('br0/a.net0');
  }
});

test('a drop is a row where it happened, clones carry the bytes of their parent', () => {
  const w = new FakeWorld();
  const { parent, clone } = floodedFrame(w, 1000);
  w.publish();
  const d = capture(w, { view: 'journey' });
  const drops = d.packets.filter((p) => p.comments[0]!.includes(' drop='));
  expect(names(d, drops)).toEqual(['br0', 'tap-b']);
  expect(drops.map((p) => p.flags)).toEqual([1, 2]);
  expect(drops[1]!.comments[0]).toMatch(
    /^dropped: the tap queue is full \| hop=tap-b .* drop=tap\.queue_full parent=1$/,
  );
  for (const p of d.packets) expect(p.data).toEqual(frameBytes(parent, 60));
  expect(d.packets.filter((p) => p.packetId === BigInt(clone)).length).toBe(2);
});

test('a drop at a place that was no hop when a followed capture began gets its interface then', () => {
  const w = new FakeWorld();
  const chunks = captureChunks(w.reader, { view: 'journey' });
  const first = chunks.next().value!;
  floodedFrame(w, 1000);
  w.publish();
  const d = decodePcapng(join([first, ...chunks]));
  expect(d.interfaces.at(-1)!.name).toBe('br0');
  expect(names(d)).toContain('br0');
  expect(d.statistics.length).toBe(d.interfaces.length);
});

test('each row has the version of the bytes that was stored last before it', () => {
  const w = new FakeWorld();
  const f = w.newFrame();
  w.version(0, 10, 1, f, frameBytes(f, 60, 0));
  w.event(0, 20, E.GUEST_XMIT, 1, f, 60);
  w.version(3, 30, 12, f, frameBytes(f, 64, 1));
  w.event(3, 40, E.GUEST_XMIT, 12, f, 64);
  w.publish();
  const d = capture(w, { view: 'journey' });
  expect(d.packets.map((p) => p.data)).toEqual([frameBytes(f, 60, 0), frameBytes(f, 64, 1)]);
});

test('snaplen cuts the bytes and keeps the length', () => {
  const w = new FakeWorld();
  vhostNetFrame(w, 0, 1514);
  w.publish();
  const d = capture(w, { view: 'wire', snaplen: 61 });
  expect(d.interfaces[0]!.snaplen).toBe(61);
  expect(d.packets[0]!.data.length).toBe(61);
  expect(d.packets[0]!.originalLength).toBe(1514);
});

test('rows are sorted by time though contexts land out of order', () => {
  const w = new FakeWorld();
  const ids = [w.newFrame(), w.newFrame(), w.newFrame()];
  for (const f of ids) w.version(0, 0, 1, f, frameBytes(f, 60));
  w.event(0, 500, E.GUEST_XMIT, 1, ids[0], 60);
  w.event(0, 900, E.GUEST_XMIT, 1, ids[1], 60);
  w.event(3, 400, E.GUEST_XMIT, 12, ids[2], 60);
  w.event(3, 500, E.GUEST_RX, 12, ids[2], 60);
  w.event(3, 1000, E.GUEST_RX, 12, ids[2], 60);
  w.publish();
  const d = capture(w, { view: 'journey' });
  expect(d.packets.map((p) => Number(p.time - EPOCH))).toEqual([400, 500, 500, 900, 1000]);
  expect(d.packets.map((p) => Number(p.packetId))).toEqual([ids[2], ids[0], ids[2], ids[1], ids[2]]);
});

test('frame ids and byte positions past 32 bits come out whole', () => {
  const w = new FakeWorld({ firstFrame: 2 ** 32 - 20, firstByte: 2 ** 35 - 8 * 100 });
  const ids = Array.from({ length: 40 }, (_, i) => vhostNetFrame(w, i * 10_000, 60));
  const { clone } = floodedFrame(w, 1_000_000);
  w.publish();
  const d = capture(w, { view: 'journey' });
  expect([...new Set(d.packets.map((p) => Number(p.packetId)))]).toEqual([...ids, clone - 1, clone]);
  for (const p of d.packets) {
    const id = Number(p.packetId);
    expect(p.data).toEqual(frameBytes(id === clone ? clone - 1 : id, 60));
  }
});

test('what the rings have overwritten is counted per interface', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 14 });
  for (let i = 0; i < 3000; i++) vhostNetFrame(w, i * 1000);
  w.publish();
  const d = capture(w, { view: 'journey' });
  for (const s of d.statistics) {
    const rows = d.packets.filter((p) => p.interfaceId === s.interfaceId).length;
    const used = ['a/net0', 'a/net0/tx0', 'tap-a', 'br0/a.net0', 'br0/b.net0', 'tap-b', 'b/net0/rx0', 'b/net0'];
    expect(s.received).toBe(used.includes(d.interfaces[s.interfaceId]!.name) ? 3000n : 0n);
    expect(s.dropped).toBe(s.received - BigInt(rows));
    expect(s.comments).toEqual([]);
  }
  // The same for bytes: events held, bytes gone.
  const small = new FakeWorld({ byteCapacity: 1 << 16 });
  for (let i = 0; i < 100; i++) vhostNetFrame(small, i * 1000, 1500);
  small.publish();
  const wire = capture(small, { view: 'wire' });
  expect(wire.statistics[0]!.received).toBe(100n);
  expect(wire.packets.length).toBeGreaterThan(10);
  expect(wire.packets.length).toBeLessThan(50);
  expect(Number(wire.statistics[0]!.dropped)).toBe(100 - wire.packets.length);
});

test('where losses cannot be told apart by hop, the statistics say how many events are missing', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 14 });
  for (let i = 0; i < 3000; i++) vhostNetFrame(w, i * 1000);
  w.publish();
  const d = capture(w, { view: 'wire', fromEvent: 10, snaplen: 0 });
  const lost = w.reader.tail() - 10;
  const comment = `${lost} events were overwritten before they could be read; rows among them are not counted here`;
  expect(d.statistics.map((s) => s.comments)).toEqual([[comment], [comment]]);
  expect(d.packets[0]!.data.length).toBe(60);
});

test('a refused chain that never was a frame is counted, without a row', () => {
  const w = new FakeWorld();
  w.event(1, 5, E.VIRTQ_DROP_BAD_CHAIN, 2, 0, 3);
  w.publish();
  const d = capture(w, { view: 'journey' });
  expect(d.packets).toEqual([]);
  const queue = d.statistics.find((s) => d.interfaces[s.interfaceId]!.name === 'a/net0/tx0')!;
  expect([queue.received, queue.dropped]).toEqual([1n, 1n]);
});

test('a capture from an event on knows the bytes that were stored before it', () => {
  const w = new FakeWorld();
  const first = vhostNetFrame(w, 0);
  const middle = w.events - 4;
  const second = vhostNetFrame(w, 100_000);
  const end = w.events;
  vhostNetFrame(w, 200_000);
  w.publish();
  const d = capture(w, { view: 'journey', fromEvent: middle, toEvent: end });
  expect(d.packets.map((p) => Number(p.packetId))).toEqual([first, ...new Array<number>(8).fill(second)]);
  expect(d.packets[0]!.data).toEqual(frameBytes(first, 60));
});

test('a snapshot stops at the head it began with, and is cut into bounded chunks', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 17, byteCapacity: 1 << 24 });
  for (let i = 0; i < 2000; i++) vhostNetFrame(w, i * 1000, 1514);
  w.publish();
  const chunks = captureChunks(w.reader, { view: 'journey' });
  const list: Uint8Array[] = [chunks.next().value!, chunks.next().value!];
  for (let i = 0; i < 100; i++) vhostNetFrame(w, 10_000_000 + i * 1000, 1514);
  w.publish();
  for (const chunk of chunks) list.push(chunk);
  for (const chunk of list) expect(chunk.length).toBeLessThanOrEqual(CHUNK_BYTES);
  expect(decodePcapng(join(list)).packets.length).toBe(16_000);
});

test('a scan that finds nothing gives the event loop air', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 18 });
  for (let i = 0; i < 200_000; i++) w.event(0, i, E.SCHED_SLEEP, 0);
  w.publish();
  const empty = [...captureChunks(w.reader, { view: 'wire' })].filter((c) => c.length === 0);
  expect(empty.length).toBeGreaterThan(3);
});

test('a followed capture goes on where it left, and keeps the bytes of frames that come back late', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 14, firstByte: 1 << 22 });
  const parked = w.newFrame();
  w.version(0, 0, 1, parked, frameBytes(parked, 60));
  w.event(0, 10, E.GUEST_XMIT, 1, parked, 60);
  w.publish();
  const capture = new Capture(w.reader, { view: 'journey' });
  const chunks = [capture.header()];
  // Ten turns of the event ring without a word of the frame.
  for (let i = 0; i < 40; i++) {
    for (let k = 0; k < 170; k++) vhostNetFrame(w, 100_000 * (i + 1) + k * 100);
    w.publish();
    chunks.push(...capture.scan());
  }
  w.event(3, 100_000_000, E.GUEST_RX, 12, parked, 60);
  w.publish();
  chunks.push(...capture.scan(), ...capture.flush(), capture.trailer());
  const d = decodePcapng(join(chunks));
  const rows = d.packets.filter((p) => p.packetId === BigInt(parked));
  expect(names(d, rows)).toEqual(['a/net0', 'b/net0']);
  for (const row of rows) expect(row.data).toEqual(frameBytes(parked, 60));
  expect(d.packets.length).toBe(2 + 40 * 170 * 8);
  expect(d.statistics.map((s) => s.dropped)).toEqual(d.statistics.map(() => 0n));
});

test('after lost events no row has bytes, or counts time, from before them', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 14 });
  const f = w.newFrame();
  w.version(0, 0, 1, f, frameBytes(f, 60, 0));
  w.event(0, 10, E.GUEST_XMIT, 1, f, 60);
  w.publish();
  const capture = new Capture(w.reader, { view: 'journey' });
  const chunks = [capture.header(), ...capture.scan()];
  // The frame and its clone change among the events that are overwritten before they are read; the old bytes are held.
  w.version(0, 20, 1, f, frameBytes(f, 60, 1));
  for (let i = 0; i < 1 << 14; i++) w.event(0, 30 + i, E.SCHED_SLEEP, 0);
  w.event(1, 50_000, E.DP_INGRESS, 8, f, 60);
  const clone = w.newFrame();
  w.event(1, 50_010, E.PACKET_CLONE, 7, clone, f);
  w.event(1, 50_020, E.DP_OUTPUT, 9, clone, 60);
  w.version(1, 50_100, 7, f, frameBytes(f, 60, 2));
  w.event(1, 50_130, E.DP_OUTPUT, 9, f, 60);
  w.publish();
  chunks.push(...capture.scan(), ...capture.flush(), capture.trailer());
  const d = decodePcapng(join(chunks));
  expect(names(d)).toEqual(['a/net0', 'br0/b.net0']);
  expect(d.packets.map((p) => p.packetId)).toEqual([BigInt(f), BigInt(f)]);
  expect(d.packets.map((p) => p.data)).toEqual([frameBytes(f, 60, 0), frameBytes(f, 60, 2)]);
  expect(d.packets[1]!.comments[0]).not.toContain('wait=');
  const counts = (name: string): bigint[] => {
    const s = d.statistics.find((x) => d.interfaces[x.interfaceId]!.name === name)!;
    return [s.received, s.dropped];
  };
  expect([counts('a/net0'), counts('br0/a.net0'), counts('br0/b.net0')]).toEqual([
    [1n, 0n],
    [1n, 1n],
    [2n, 1n],
  ]);
});

test('a capture goes on where each look at the clock is a step late', () => {
  const w = new FakeWorld();
  for (let i = 0; i < 500; i++) vhostNetFrame(w, i * 1000);
  w.publish();
  let now = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => {
    now += 1000;
    return now;
  });
  const chunks: Uint8Array[] = [];
  for (const chunk of captureChunks(w.reader, { view: 'journey' })) {
    chunks.push(chunk);
    if (chunks.length > 1000) throw new Error('it stands still');
  }
  expect(decodePcapng(join(chunks)).packets.length).toBe(4000);
});

test('the same world gives the same bytes', () => {
  const make = (): Uint8Array => {
    const w = new FakeWorld();
    for (let i = 0; i < 50; i++) vhostNetFrame(w, i * 1000);
    w.publish();
    return join(captureChunks(w.reader, { view: 'journey' }));
  };
  expect(make()).toEqual(make());
});

test('rows of events: bytes that are overwritten are cut off, snaplen cuts frames only, lost events are counted', () => {
  const small = new FakeWorld({ byteCapacity: 1 << 16 });
  for (let i = 0; i < 100; i++) vhostNetFrame(small, i * 1000, 1500);
  small.publish();
  const cut = capture(small, { view: 'events', snaplen: 100 });
  expect(cut.packets.length).toBe(small.events);
  const stored = cut.packets.filter((p) => p.comments[0]!.includes(' event=packet.bytes '));
  expect(stored.length).toBe(100);
  const held = stored.map((p) => p.data.length - new DataView(p.data.buffer, p.data.byteOffset).getUint16(6, true));
  for (const p of stored) {
    expect(p.originalLength).toBe(new DataView(p.data.buffer, p.data.byteOffset).getUint16(6, true) + 1500);
  }
  expect(new Set(held)).toEqual(new Set([0, 100]));
  expect(held.indexOf(100)).toBeGreaterThan(50);
  expect(held.slice(held.indexOf(100))).not.toContain(0);

  const lost = new FakeWorld({ eventCapacity: 1 << 14 });
  for (let i = 0; i < 3000; i++) vhostNetFrame(lost, i * 1000);
  lost.publish();
  const d = capture(lost, { view: 'events' });
  expect(d.packets.length).toBe(lost.events - lost.reader.tail());
  expect(d.statistics.reduce((n, s) => n + s.received, 0n)).toBe(BigInt(lost.events));
  expect(d.statistics.reduce((n, s) => n + s.dropped, 0n)).toBe(BigInt(lost.reader.tail()));
  for (const s of d.statistics) {
    const rows = d.packets.filter((p) => p.interfaceId === s.interfaceId).length;
    expect(Number(s.received - s.dropped)).toBe(rows);
  }
});

test('a chunk that is given back is written into again, and nothing that is still held is', () => {
  const w = new FakeWorld({ eventCapacity: 1 << 17, byteCapacity: 1 << 24 });
  for (let i = 0; i < 2000; i++) vhostNetFrame(w, i * 1000, 200);
  w.publish();
  const whole = join(captureChunks(w.reader, { view: 'journey' }));
  const copies: Uint8Array[] = [];
  const buffers = new Set<ArrayBufferLike>();
  const chunks = captureChunks(w.reader, { view: 'journey' });
  for (let step = chunks.next(); step.done !== true; step = chunks.next(step.value)) {
    buffers.add(step.value.buffer);
    copies.push(step.value.slice());
  }
  expect(join(copies)).toEqual(whole);
  expect(buffers.size).toBeLessThan(copies.length / 2);
});
