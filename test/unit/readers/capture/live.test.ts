/** Readers beside the engine's own recorder, which runs at full speed in another thread and overwrites small rings. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { BLOCK_EVENTS, CTL_SIZE, RingReader } from '../../../../src/engine/event-ring.ts';
import { KIND_STRIDE } from '../../../../src/engine/events.ts';
import { latencyBytes } from '../../../../src/engine/latency.ts';
import { captureChunks } from '../../../../src/readers/capture/capture.ts';
import { EventCursor } from '../../../../src/readers/events/event-cursor.ts';
import { EventFilter } from '../../../../src/readers/events/event-filter.ts';
import { JsonEncoder } from '../../../../src/readers/events/event-json.ts';
import { findJourney } from '../../../../src/readers/journey/journey.ts';
import { CONTEXTS, PLACES } from '../fake-world.ts';
import { decodePcapng, join } from '../pcapng-decoder.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUN_MS = full ? 20_000 : 1_500;
const PATIENCE_MS = 60_000;

/** A world's memory for the recorder, and a worker that writes into it. */
function startWorld(eventCapacity: number, byteCapacity: number, burst: number, rest: number) {
  let size = 64;
  const region = (bytes: number): number => {
    const at = size;
    size += Math.ceil(bytes / 64) * 64;
    return at;
  };
  const regions = {
    control: region(CTL_SIZE),
    eventTime: region(eventCapacity * 8),
    eventMeta: region(eventCapacity * 4),
    eventFrame: region(eventCapacity * 4),
    eventA: region(eventCapacity * 4),
    eventB: region(eventCapacity * 4),
    blockFrame: region((eventCapacity / BLOCK_EVENTS) * 8),
    blockBytes: region((eventCapacity / BLOCK_EVENTS) * 8),
    byteRing: region(byteCapacity),
    counters: region(PLACES.length * KIND_STRIDE * 16),
    busy: region(CONTEXTS.length * 8),
    idlePolls: region(CONTEXTS.length * 8),
    latency: region(latencyBytes(PLACES.length)),
    placeRoom: PLACES.length,
    contextRoom: CONTEXTS.length,
    growth: region(64),
    growthBytes: 64,
  };
  const ordinals = region(CONTEXTS.length * 8);
  const source = region(2048);
  const pages = Math.ceil(size / 65536);
  const layout = { ...regions, eventCapacity, byteCapacity, memoryBytes: pages * 65536 };
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const costStamp = { profile: 'haswell-2.4', hash: '0', overrides: 0 };
  const catalog = {
    ...{ topology: 't', seed: 1, epochNs: '0', places: PLACES, contexts: CONTEXTS, layout, costs: {} },
    costStamp,
  };
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(new URL('../live-writer.ts', import.meta.url), {
    workerData: { memory, pages, layout, ordinals, source, stop, burst, rest },
  });
  const reader = new RingReader(memory.buffer as unknown as SharedArrayBuffer, catalog);
  const end = async (): Promise<void> => {
    Atomics.store(stop, 0, 1);
    await once(worker, 'message');
    await worker.terminate();
  };
  return { reader, end };
}

test.each([
  // Small rings that wrap all the time, and a slice of as many events as a block.
  { eventCapacity: 1 << 16, byteCapacity: 1 << 24, burst: 400, rest: 4 },
  { eventCapacity: 1 << 18, byteCapacity: 1 << 26, burst: 32, rest: 2 ** 30 },
])(
  'nothing torn, nothing out of order, nothing lost in silence: %o',
  async ({ eventCapacity, byteCapacity, burst, rest }) => {
    const { reader, end } = startWorld(eventCapacity, byteCapacity, burst, rest);
    try {
      while (reader.head() < eventCapacity) await new Promise((resolve) => setTimeout(resolve, 5));
      const started = performance.now();
      let rows = 0;
      let dropped = 0;
      let exact = 0;
      let rounds = 0;
      const cursor = new EventCursor(
        reader,
        new EventFilter(reader.catalog, { events: 'packet.born,guest.xmit' }),
        new JsonEncoder(reader.catalog, 'lines'),
        0,
      );
      // on a crowded machine either thread may stand still for long: then until each thing has been seen to happen
      const seenAll = (): boolean => rows > 0 && dropped > 0 && exact > 0;
      const elapsed = (): number => performance.now() - started;
      while (elapsed() < RUN_MS || (!seenAll() && elapsed() < RUN_MS + PATIENCE_MS)) {
        rounds++;
        const before = reader.head();
        const file = decodePcapng(join(captureChunks(reader, { view: rounds % 2 === 0 ? 'wire' : 'journey' })));
        const last = new Map<bigint, bigint>();
        for (const p of file.packets) {
          // Every word of the frame is its id: a torn or foreign frame shows.
          const id = Number(p.packetId);
          if (p.originalLength !== 60 + (id % 1440)) throw new Error(`frame ${id} has length ${p.originalLength}`);
          const view = new DataView(p.data.buffer, p.data.byteOffset, p.data.length);
          for (let at = 0; at + 4 <= p.data.length; at += 4) {
            if (view.getUint32(at, true) !== id) throw new Error(`frame ${id} has other bytes at ${at}`);
          }
          if ((last.get(p.packetId) ?? 0n) > p.time) throw new Error(`frame ${id} goes back in time`);
          last.set(p.packetId, p.time);
        }
        rows += file.packets.length;
        for (const s of file.statistics) {
          const name = file.interfaces[s.interfaceId]!.name;
          const written = file.packets.filter((p) => p.interfaceId === s.interfaceId).length;
          expect(Number(s.received - s.dropped)).toBe(written);
          dropped += Number(s.dropped);
          // Five events per frame: what the hop saw is known to a slice.
          if (s.comments.length > 0 || (name !== 'a/net0' && name !== 'br0/a.net0')) continue;
          if (name === 'a/net0' && rounds % 2 === 0) continue;
          exact++;
          expect(Number(s.received)).toBeGreaterThanOrEqual(Math.floor(before / 5) - burst);
        }
        let next = cursor.position;
        for (let i = 0; i < 20; i++) {
          const batch = cursor.next();
          if (batch === null) break;
          expect(batch.from).toBe(next);
          next = batch.to;
          for (const line of Buffer.from(batch.bytes).toString().split('\n').slice(0, -1)) {
            const event = JSON.parse(line) as { seq: number; frame: number; bytes: number };
            expect(event.frame).toBe(Math.floor(event.seq / 5) + 1);
            expect(event.bytes).toBe(60 + (event.frame % 1440));
          }
        }
        const search = findJourney(reader, reader.framesHead() - 100);
        let step = search.next();
        while (!step.done) step = search.next();
        if (step.value.kind === 'found') {
          expect(step.value.journey.hops.map((h) => h.event)).toEqual([
            'packet.born',
            'guest.xmit',
            'dp.ingress',
            'wire.deliver',
          ]);
        }
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      expect(rows).toBeGreaterThan(0);
      expect(dropped).toBeGreaterThan(0);
      expect(exact).toBeGreaterThan(0);
    } finally {
      await end();
    }
  },
);
