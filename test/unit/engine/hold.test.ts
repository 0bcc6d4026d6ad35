/** A hold's words and the engine's gate, on a recorder without a world. Whole runs: test/unit/lab/world-hold.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { BLOCK_EVENTS, CTL_SIZE, HOLDS } from '../../../src/engine/event-ring.ts';
import { Hold, HoldGate } from '../../../src/engine/hold.ts';

const CAPACITY = 64 * BLOCK_EVENTS;

function make(blocks = 64, byteCapacity = 1 << 24) {
  const eventCapacity = blocks * BLOCK_EVENTS;
  const memory = new SharedArrayBuffer(CTL_SIZE + blocks * 8);
  const at = { control: 0, blockBytes: CTL_SIZE, eventCapacity, byteCapacity };
  // Only these regions are looked at.
  const layout = at as unknown as ConstructorParameters<typeof HoldGate>[1];
  return { memory, layout, gate: new HoldGate(memory, layout), blockBytes: new Float64Array(memory, CTL_SIZE, blocks) };
}

test('steps get fewer as the slowest reader falls behind, and end at half of the ring', () => {
  const { memory, layout, gate } = make();
  assert.equal(gate.taken, false);
  const fast = Hold.take(memory, layout, 1000)!;
  const slow = Hold.take(memory, layout, 0)!;
  assert.equal(gate.taken, true);
  fast.advance(CAPACITY);
  let before = Number.POSITIVE_INFINITY;
  for (let events = 0; events < CAPACITY / 2 - 8 * BLOCK_EVENTS; events += BLOCK_EVENTS) {
    const steps = gate.steps(events, 0, 4096);
    assert.ok(steps >= 1 && steps <= before, `${events} events: ${steps} steps`);
    before = steps;
  }
  assert.equal(gate.steps(CAPACITY / 2, 0, 4096), 0);
  assert.equal(gate.waitingFor(CAPACITY / 2, 0), 1, 'only the slow one is waited for');
  slow.advance(CAPACITY / 2);
  assert.ok(gate.steps(CAPACITY / 2, 0, 4096) > 0);
  slow.release();
  slow.release();
  slow.advance(7);
  assert.equal(gate.taken, true, 'a hold is released once');
  fast.release();
  assert.equal(gate.taken, false);
  assert.equal(gate.steps(CAPACITY * 10, 0, 4096), 4096);
});

test('bytes count from where the block before the reader ended', () => {
  const { memory, layout, gate, blockBytes } = make();
  const hold = Hold.take(memory, layout, 3 * BLOCK_EVENTS)!;
  const events = 4 * BLOCK_EVENTS;
  blockBytes[2] = 1 << 20;
  assert.ok(gate.steps(events, 2 << 20, 4096) > 0);
  assert.equal(gate.steps(events, (1 << 20) + (1 << 23), 4096), 0, 'half of the byte ring behind');
  hold.advance(events);
  assert.ok(gate.steps(events, (1 << 20) + (1 << 23), 4096) > 0, 'who has read all has all bytes');
});

test('in the smallest ring a reader has to have read everything', () => {
  const { memory, layout, gate } = make(2, 1 << 16);
  const hold = Hold.take(memory, layout, 5000)!;
  assert.equal(gate.steps(5001, 0, 4096), 0);
  hold.advance(5001);
  assert.equal(gate.steps(5001, 0, 4096), 1);
});

test(`${HOLDS} holds; the next one is refused, and a released one is free again`, () => {
  const { memory, layout } = make();
  const holds = Array.from({ length: HOLDS }, () => Hold.take(memory, layout, 0));
  assert.ok(holds.every((h) => h !== null));
  assert.equal(Hold.take(memory, layout, 0), null);
  holds[5]!.release();
  assert.equal(Hold.take(memory, layout, 0)?.slot, 5);
});
