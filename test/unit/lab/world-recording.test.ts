/** What worlds keep beside frames: the vhost-user messages of the set-up, and the drivers' descriptors where asked. */
import { expect, test } from 'vitest';
import { RingReader } from '../../../src/engine/event-ring.ts';
import * as E from '../../../src/engine/events.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { PRESETS } from '../../../src/lab/presets.ts';
import { World } from '../../../src/lab/world.ts';

interface Stored {
  readonly kind: number;
  readonly place: string;
  readonly frame: number;
  readonly bytes: Uint8Array;
  /** The event before it. */
  readonly before: { readonly kind: number; readonly a: number; readonly b: number };
}

function run(preset: string, descriptors: boolean): { stored: Stored[] } {
  const document = PRESETS.find((p) => p.name === preset)!.document;
  const parsed = parseTopology(
    { ...document, recorder: { events: 1 << 16, bytes: '4MiB', descriptors } },
    { name: 'recording' },
  );
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  const world = new World(parsed.topology);
  const ends = { from: 'a/net0', to: 'b/net0' };
  const sizes = { frameSize: 100, count: 20, rate: 0 };
  world.startTraffic({ id: 'r', kind: 'udp', ...ends, ...sizes, generator: null, flows: 1 });
  for (let i = 0; i < 10_000 && world.turn(50) === 0; i++);
  const { arena, catalog } = world.machine;
  const reader = new RingReader(arena.buffer, catalog);
  const stored: Stored[] = [];
  let before = { kind: 0, a: 0, b: 0 };
  for (let next = 0; next < reader.head(); ) {
    const count = reader.read(next);
    const { block } = reader;
    for (let i = 0; i < count; i++) {
      const kind = E.kindOf(block.meta[i]!);
      if (kind === E.VHOST_USER_MESSAGE || kind === E.VIRTQ_DESCRIPTORS) {
        const bytes = new Uint8Array(block.b[i]!);
        expect(reader.readBytes(reader.bytePosition(block.a[i]!), bytes.length, bytes)).toBe(true);
        const place = catalog.places[E.placeOf(block.meta[i]!)]!.name;
        stored.push({ kind, place, frame: block.frame[i]!, bytes, before });
      }
      before = { kind, a: block.a[i]!, b: block.b[i]! };
    }
    next += count;
  }
  return { stored };
}

test('vhost-user messages are kept as they are on the socket: header, then payload', () => {
  const { stored } = run('vhost-user', false);
  expect(stored.length).toBeGreaterThan(60);
  const flagsOf = new Set<number>();
  for (const { kind, bytes, before } of stored) {
    expect(kind).toBe(E.VHOST_USER_MESSAGE);
    const view = new DataView(bytes.buffer);
    // the event before it says the same, and on whose side of the socket
    expect([E.VHOST_USER_REQUEST, E.VHOST_USER_REPLY]).toContain(before.kind);
    expect([view.getUint32(0, true), view.getUint32(8, true)]).toEqual([before.a, before.b]);
    expect(bytes.length).toBe(12 + before.b);
    const flags = view.getUint32(4, true);
    // QEMU docs/interop/vhost-user.rst: version 1 in bits 0-1, reply in bit 2
    expect(flags & 3).toBe(1);
    expect((flags & 4) !== 0).toBe(before.kind === E.VHOST_USER_REPLY);
    flagsOf.add(flags);
  }
  expect([...flagsOf].sort()).toEqual([1, 5, 9]);
  // SET_MEM_TABLE (5): number of regions, padding, then 32 bytes for each
  const table = stored.find((s) => s.before.kind === E.VHOST_USER_REQUEST && s.before.a === 5)!;
  const regions = new DataView(table.bytes.buffer).getUint32(12, true);
  expect(regions).toBeGreaterThan(0);
  expect(table.bytes.length).toBe(12 + 8 + 32 * regions);
});

test('worlds without vhost-user keep no messages, and no world keeps descriptors unasked', () => {
  for (const preset of ['virtio-net', 'vhost-net']) expect(run(preset, false).stored).toEqual([]);
});

test.each(['virtio-net', 'vhost-net', 'vhost-user'])('%s: the descriptors of each chain, where asked for', (preset) => {
  const chains = run(preset, true).stored.filter((s) => s.kind === E.VIRTQ_DESCRIPTORS);
  const sent = chains.filter((c) => c.frame !== 0);
  // every frame on its way out, and each receive buffer
  expect(sent.length).toBeGreaterThanOrEqual(20);
  expect(chains.filter((c) => c.place === 'b/net0/rx0').length).toBeGreaterThan(100);
  // commands have both kinds of descriptors
  expect(chains.some((c) => c.place === 'a/net0/ctrl')).toBe(true);
  for (const { bytes, place, frame } of chains.filter((c) => !c.place.endsWith('/ctrl'))) {
    expect(bytes.length % 18).toBe(0);
    const view = new DataView(bytes.buffer);
    const descriptors = Array.from({ length: bytes.length / 18 }, (_, i) => ({
      index: view.getUint16(18 * i, true),
      length: view.getUint32(18 * i + 10, true),
      flags: view.getUint16(18 * i + 14, true),
      next: view.getUint16(18 * i + 16, true),
    }));
    // virtio 1.2 §2.7.5: only the last has no NEXT (1) and is no INDIRECT (4); WRITE (2) is for the receive queue
    descriptors.forEach((d, i) => {
      const last = i === descriptors.length - 1;
      expect((d.flags & 5) === 0, `${place} ${i}`).toBe(last);
      if ((d.flags & 1) !== 0) expect(descriptors[i + 1]!.index).toBe(d.next);
      if (last || (d.flags & 1) !== 0) expect((d.flags & 2) !== 0).toBe(place.includes('/rx'));
    });
    const readable = descriptors.filter((d) => (d.flags & 4) === 0).reduce((n, d) => n + d.length, 0);
    if (frame !== 0) expect(readable).toBeGreaterThanOrEqual(12 + 42);
  }
});
