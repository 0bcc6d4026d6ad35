/** What booting did to the counters, for those who come to see them later. */
import { expect, test } from 'vitest';
import { RingReader } from '../../../../src/engine/event-ring.ts';
import { worldMetrics } from '../../../../src/readers/metrics/prometheus.ts';
import { bootCounts, type MeteredWorld } from '../../../../src/readers/metrics/prometheus-family.ts';
import { makeWorld, pairDocument, runOut, udp } from '../../lab/world-driver.ts';

/** Sum of all series of a metric. */
function sum(text: string, metric: string): number {
  const lines = text.split('\n').filter((line) => line.startsWith(`${metric}{`));
  expect(lines.length, metric).toBeGreaterThan(0);
  return lines.reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

test('counters begin where booting left them, and only those that it moves have a beginning', () => {
  const world = makeWorld(pairDocument('virtio-net'));
  const reader = new RingReader(world.machine.arena.buffer as SharedArrayBuffer, world.machine.catalog);
  const metered: MeteredWorld = { reader, booted: bootCounts(reader) };
  const pairs = [
    ['ringside_vm_exits_total', 'ringside_boot_vm_exits'],
    ['ringside_context_busy_seconds_total', 'ringside_boot_context_busy_seconds'],
    ['ringside_virtual_time_seconds', 'ringside_boot_virtual_time_seconds'],
  ] as const;
  const before = worldMetrics([metered]);
  for (const [counter, boot] of pairs) {
    expect(sum(before, boot), boot).toBeGreaterThan(0);
    expect(sum(before, counter), counter).toBe(sum(before, boot));
  }
  // interrupts are none of them: a device notifies its control queue, too
  for (const counter of ['received_frames_total', 'copies_total', 'traffic_seconds_total']) {
    expect(sum(before, `ringside_${counter}`), counter).toBe(0);
  }
  world.startTraffic(udp('a/net0', 'b/net0', { count: 100 }));
  runOut(world);
  const after = worldMetrics([metered]);
  for (const [counter, boot] of pairs) {
    expect(sum(after, boot), boot).toBe(sum(before, boot));
    expect(sum(after, counter), counter).toBeGreaterThan(sum(before, counter));
  }
});
