/** What machine parts need to run without a world: memory, a recorder whose events are seen, frames, packets, costs. */
import { costTable } from '../../../../src/engine/costs.ts';
import { BLOCK_EVENTS, CTL_SIZE } from '../../../../src/engine/event-ring.ts';
import * as E from '../../../../src/engine/events.ts';
import { latencyBytes } from '../../../../src/engine/latency.ts';
import { Recorder } from '../../../../src/engine/recorder.ts';
import { Arena } from '../../../../src/machine/memory/arena.ts';
import { ArenaPlan } from '../../../../src/machine/memory/sizes.ts';
import { Frames } from '../../../../src/machine/packet/frames.ts';
import { FRAME_OFFSET, PacketPool } from '../../../../src/machine/packet/pool.ts';
import { Services } from '../../../../src/machine/services.ts';

export interface BareEvent {
  readonly kind: number;
  readonly place: number;
  readonly frame: number;
  readonly a: number;
  readonly b: number;
  readonly time: number;
}

export class Bare {
  readonly services: Services;
  readonly events: BareEvent[] = [];
  /** Arena offset of `scratchBytes` for the test's own use. */
  readonly scratch: number;

  constructor(packets = 4096, costs: Record<string, number> = {}, jumbos = 64, scratchBytes = 65_536) {
    const plan = new ArenaPlan();
    const eventCapacity = 2 * BLOCK_EVENTS;
    const byteCapacity = 1 << 20;
    const layout = {
      control: plan.reserve(CTL_SIZE),
      eventCapacity,
      eventTime: plan.reserve(eventCapacity * 8),
      eventMeta: plan.reserve(eventCapacity * 4),
      eventFrame: plan.reserve(eventCapacity * 4),
      eventA: plan.reserve(eventCapacity * 4),
      eventB: plan.reserve(eventCapacity * 4),
      blockFrame: plan.reserve(16),
      blockBytes: plan.reserve(16),
      byteRing: plan.reserve(byteCapacity),
      byteCapacity,
      counters: plan.reserve(256 * E.KIND_STRIDE * 16),
      busy: plan.reserve(64 * 8),
      idlePolls: plan.reserve(64 * 8),
      latency: plan.reserve(latencyBytes(256)),
      placeRoom: 256,
      contextRoom: 64,
      growth: plan.reserve(64),
      growthBytes: 64,
    };
    const ordinals = plan.reserve(64 * 4);
    const pool = plan.reserve(PacketPool.bytes(packets, jumbos), 4096);
    this.scratch = plan.reserve(scratchBytes, 4096);
    const arena = new Arena(plan.bytes);
    const recorder = new Recorder(arena.buffer, { ...layout, memoryBytes: plan.bytes }, arena.code, ordinals);
    const event = recorder.event.bind(recorder);
    recorder.event = (meta, frame, a, b) => {
      event(meta, frame, a, b);
      const m = meta >>> 0;
      this.events.push({
        kind: E.kindOf(m),
        place: E.placeOf(m),
        frame,
        a: a >>> 0,
        b: b >>> 0,
        time: recorder.stamp[0]!,
      });
    };
    this.services = new Services(
      arena,
      recorder,
      new Frames(recorder),
      new PacketPool(pool, packets, jumbos),
      costTable(costs),
    );
  }

  /** A packet with these bytes, born outside of any run. */
  packet(bytes: Uint8Array, inPort = 1): number {
    const { pool, arena, frames } = this.services;
    const packet = pool.alloc(FRAME_OFFSET + bytes.length);
    arena.u8.fill(0, pool.slot(packet), pool.at(packet));
    arena.u8.set(bytes, pool.at(packet));
    pool.length[packet] = bytes.length;
    pool.inPort[packet] = inPort;
    pool.frame[packet] = frames.born(0, pool.at(packet), bytes.length, 0);
    return packet;
  }
  bytesOf(packet: number): Uint8Array {
    const { pool, arena } = this.services;
    return arena.u8.slice(pool.at(packet), pool.at(packet) + pool.length[packet]!);
  }
  count(kind: number): number {
    return this.events.filter((e) => e.kind === kind).length;
  }
}
