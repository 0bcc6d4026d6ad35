/** Captures of real worlds beside the journeys of their frames and beside the events themselves. */
import { expect, test } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { captureChunks } from '../../../../src/readers/capture/capture.ts';
import { NAME_A, NAME_B, valueOfA } from '../../../../src/readers/events/event-columns.ts';
import { findJourney, type Journey } from '../../../../src/readers/journey/journey.ts';
import { type DecodedPacket, decodePcapng, join } from '../pcapng-decoder.ts';
import { type Ran, ranWorld, wordsOf } from '../worlds.ts';

function journeyOf({ reader }: Ran, frame: number): Journey {
  const search = findJourney(reader, frame);
  let step = search.next();
  while (!step.done) step = search.next();
  if (step.value.kind !== 'found') throw new Error(`frame ${frame}: ${step.value.kind}`);
  return step.value.journey;
}
const sum = (rows: readonly Record<string, string>[], key: string): number =>
  rows.reduce((n, row) => n + Number(row[key] ?? 0), 0);

const RUNS = [
  ['virtio-net', { count: 150, frameSize: 64 }],
  ['virtio-net', { count: 60, frameSize: 200, rate: 20_000 }],
  ['vhost-net', { count: 150, frameSize: 64 }],
  ['vhost-net', { count: 60, frameSize: 1500, rate: 20_000 }],
  ['vhost-user', { count: 150, frameSize: 64 }],
  ['vhost-user', { count: 60, frameSize: 200, rate: 20_000 }],
  ['pvp', { count: 60, frameSize: 64, ends: 'eth0 eth0' }],
] as const;

test.each(RUNS)('%s %o: what the rows of a frame add up to is what its journey says', (preset, traffic) => {
  const ran = ranWorld(preset, traffic);
  const file = decodePcapng(join(captureChunks(ran.reader, { view: 'journey' })));
  const ways = Map.groupBy(file.packets, (p) => Number(p.packetId));
  const totals = { copies: 0, exits: 0, kicks: 0, interrupts: 0, cached: 0 };
  for (let frame = 1; frame <= ran.reader.framesHead(); frame++) {
    const journey = journeyOf(ran, frame);
    const rows = (ways.get(frame) ?? []).map((p) => wordsOf(p.comments[0]!));
    if (rows.length === 0) continue;
    const said = {
      copies: sum(rows, 'copies'),
      copiedBytes: sum(rows, 'copy'),
      exits: sum(rows, 'exits'),
      kicks: sum(rows, 'kick'),
      interrupts: sum(rows, 'irq'),
    };
    const { copies, copiedBytes, exits, kicks, interrupts } = journey.totals;
    expect(said, `frame ${frame}`).toEqual({ copies, copiedBytes, exits, kicks, interrupts });
    // an exit that the kick caused is named where the kick is
    for (const row of rows) {
      expect(row['exit'] === undefined).toBe(row['exits'] === undefined);
      if (row['kick'] !== undefined) expect(row['event']).toBe('virtq.avail');
      if (row['irq'] !== undefined) expect(row['event']).toBe('virtq.used');
      if (row['copy'] !== undefined) expect(Number(row['copy'])).toBeGreaterThan(0);
      expect(row['parent'] ?? null).toBe(journey.parent === null ? null : String(journey.parent));
    }
    const named = new Set(rows.flatMap((row) => (row['exit'] ?? '').split(',')).filter((name) => name !== ''));
    expect([...named].map((name) => `kvm.exit_${name}`).sort()).toEqual(
      Object.keys(journey.totals.exitsByReason).sort(),
    );
    const caches = journey.hops.map((hop) => hop.cache).filter((cache) => cache !== null);
    expect(rows.map((row) => row['cache']).filter((cache) => cache !== undefined)).toEqual(caches);
    totals.copies += copies;
    totals.exits += exits;
    totals.kicks += kicks;
    totals.interrupts += interrupts;
    totals.cached += caches.length;
  }
  expect(totals.copies).toBeGreaterThan(0);
  expect(totals.cached).toBeGreaterThan(0);
  if (preset !== 'vhost-user' && preset !== 'pvp') {
    expect(totals.kicks).toBeGreaterThan(0);
    expect(totals.exits).toBe(totals.kicks);
    expect(totals.interrupts).toBeGreaterThan(0);
  }
});

/** A row of `view=events`, read by the layout that event-rows.ts describes. */
function readEvent(packet: DecodedPacket) {
  const { data } = packet;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  expect(Buffer.from(data.subarray(0, 4)).toString()).toBe('RSEV');
  expect([view.getUint8(4), view.getUint8(5), view.getUint8(51)]).toEqual([1, 0, 0]);
  const strings: string[] = [];
  let at = 52;
  while (strings.length < 5) {
    const length = view.getUint8(at);
    strings.push(Buffer.from(data.subarray(at + 1, at + 1 + length)).toString());
    at += 1 + length;
  }
  expect(view.getUint16(6, true)).toBe(at);
  const [event, place, context, nameA, nameB] = strings;
  return {
    seq: Number(view.getBigUint64(8, true)),
    time: Number(view.getBigUint64(16, true)),
    frame: Number(view.getBigUint64(24, true)),
    a: Number(view.getBigUint64(32, true)),
    b: view.getUint32(40, true),
    meta: E.metaOf(view.getUint16(44, true), view.getUint16(46, true), view.getUint16(48, true)),
    dataType: view.getUint8(50),
    event,
    place,
    context,
    nameA,
    nameB,
    data: data.subarray(at),
  };
}

test.each([
  ['vhost-user', { count: 20, frameSize: 100 }],
  ['vhost-net', { count: 40, frameSize: 64 }],
  ['virtio-net', { count: 5, frameSize: 1500 }],
] as const)('%s %o: every event is a row, with its columns, names and bytes', (preset, traffic) => {
  const { reader } = ranWorld(preset, traffic, { events: 1 << 16, bytes: '4MiB', descriptors: true });
  const file = decodePcapng(join(captureChunks(reader, { view: 'events' })));
  const { places, contexts } = reader.catalog;
  expect(file.interfaces.map((i) => i.name).sort()).toEqual(places.map((p) => p.name).sort());
  expect(new Set(file.interfaces.map((i) => `${i.linkType} ${i.snaplen} ${i.resolution}`))).toEqual(
    new Set(['147 262144 9']),
  );
  expect(file.packets.length).toBe(reader.head());
  const bySeq = new Map(file.packets.map((p) => [readEvent(p).seq, p]));
  const dataTypes = new Map<number, number>();
  let last = 0n;
  for (const p of file.packets) {
    expect(p.time).toBeGreaterThanOrEqual(last);
    last = p.time;
  }
  for (let next = 0; next < reader.head(); ) {
    const count = reader.read(next);
    const { block } = reader;
    for (let i = 0; i < count; i++) {
      const packet = bySeq.get(next + i)!;
      const row = readEvent(packet);
      const meta = block.meta[i]!;
      const kind = E.KIND_BY_ID[E.kindOf(meta)]!;
      const frame = block.frame[i]!;
      const a = valueOfA(reader, kind.id, frame, block.a[i]!);
      const place = places[E.placeOf(meta)]!.name;
      const context = contexts[E.contextOf(meta)]!.name;
      const { data, dataType, seq, ...rest } = row;
      expect(rest).toEqual({
        time: block.time[i],
        frame,
        a,
        b: block.b[i],
        meta,
        event: kind.name,
        place,
        context,
        nameA: NAME_A[kind.id],
        nameB: NAME_B[kind.id],
      });
      expect(file.interfaces[packet.interfaceId]!.name).toBe(place);
      expect(Number(packet.time - BigInt(reader.catalog.epochNs))).toBe(block.time[i]);
      expect(Number(packet.packetId)).toBe(frame);
      const words = wordsOf(packet.comments[0]!);
      expect(words).toMatchObject({ hop: place, event: kind.name, ctx: context, seq: String(seq) });
      expect(words['cost'] === undefined).toBe(frame === 0);
      expect(words['exit']).toBe(kind.name.startsWith('kvm.exit_') ? kind.name.slice(9) : undefined);
      expect(words['kick']).toBe(kind.id === E.VIRTQ_KICK ? '1' : undefined);
      expect(words['irq']).toBe(kind.id === E.VIRTQ_INTERRUPT ? '1' : undefined);
      expect(words['copy']).toBe(kind.id === E.PACKET_COPY ? String(a) : undefined);
      expect(words['parent']).toBe(kind.id === E.PACKET_CLONE ? String(a) : undefined);
      const type = new Map([
        [E.PACKET_BYTES, 1],
        [E.VIRTQ_DESCRIPTORS, 2],
        [E.VHOST_USER_MESSAGE, 3],
        [E.KVM_IOCTL_ARGUMENT, 5],
        [E.VFIO_IOCTL_ARGUMENT, 5],
        [E.VHOST_IOCTL_ARGUMENT, 5],
        [E.TUN_IOCTL_ARGUMENT, 5],
        [E.VHOST_USER_BACKEND_MESSAGE, 6],
      ]).get(kind.id);
      expect(dataType).toBe(type ?? 0);
      dataTypes.set(dataType, (dataTypes.get(dataType) ?? 0) + 1);
      const bytes = new Uint8Array(type === undefined ? 0 : block.b[i]!);
      if (type !== undefined) expect(reader.readBytes(a, bytes.length, bytes)).toBe(true);
      expect(data).toEqual(bytes);
    }
    next += count;
  }
  expect([...dataTypes.keys()].sort()).toEqual(preset === 'vhost-user' ? [0, 1, 2, 3, 5] : [0, 1, 2, 5]);
  expect(file.statistics.map((s) => s.dropped)).toEqual(places.map(() => 0n));
  expect(file.statistics.reduce((n, s) => n + s.received, 0n)).toBe(BigInt(reader.head()));
});

test('the costs and waits of a frame’s events add up to its time on the way', () => {
  const ran = ranWorld('vhost-net', { count: 30, frameSize: 64 });
  const file = decodePcapng(join(captureChunks(ran.reader, { view: 'events' })));
  const ways = Map.groupBy(file.packets, (p) => Number(p.packetId));
  for (let frame = 1; frame <= ran.reader.framesHead(); frame++) {
    const { totals } = journeyOf(ran, frame);
    const rows = ways.get(frame)!.map((p) => wordsOf(p.comments[0]!));
    expect(sum(rows, 'cost')).toBe(totals.processingNs);
    expect(sum(rows, 'wait')).toBe(totals.waitingNs);
    expect(sum(rows, 'copy')).toBe(totals.copiedBytes);
    expect(sum(rows, 'exits')).toBe(totals.exits);
  }
});

test('a filter leaves the rows that it names, in every view', () => {
  const ran = ranWorld('vhost-net', { count: 30, frameSize: 64 });
  const rows = (view: 'wire' | 'journey' | 'events', filter: Record<string, string>) =>
    decodePcapng(join(captureChunks(ran.reader, { view, filter })));
  const one = rows('journey', { frame: '5' });
  expect(new Set(one.packets.map((p) => p.packetId))).toEqual(new Set([5n]));
  expect(one.packets.length).toBeGreaterThan(6);
  expect(one.statistics.reduce((n, s) => n + s.received, 0n)).toBe(BigInt(one.packets.length));
  const exits = rows('events', { events: 'kvm.exit_*', places: 'a/*' });
  expect(exits.packets.length).toBeGreaterThan(10);
  for (const p of exits.packets) {
    const { event, place } = readEvent(p);
    expect(event).toMatch(/^kvm\.exit_/);
    expect(place).toMatch(/^a\//);
  }
  // what lies between two rows that are shown is told by the later one
  const ends = rows('journey', { events: 'guest.*' });
  const deliveries = ends.packets.filter((p) => p.comments[0]!.includes(' event=guest.rx '));
  for (const p of deliveries) expect(wordsOf(p.comments[0]!)['copies']).toBe('2');
  const none = rows('wire', { time: '1000s-' });
  expect(none.packets).toEqual([]);
  expect(none.statistics.map((s) => s.received)).toEqual(none.interfaces.map(() => 0n));
});
