/** What booting did to the counters, for those who come to see them later. */
import { expect, test } from 'vitest';
import { RingReader } from '../../../../src/engine/event-ring.ts';
import { worldMetrics } from '../../../../src/readers/metrics/prometheus.ts';
import { bootCounts, type MeteredWorld } from '../../../../src/readers/metrics/prometheus-family.ts';
import { MOVED_BY_BOOTING } from '../../../../src/readers/metrics/prometheus-kvm.ts';
import { BACKENDS, makeWorld, pairDocument, runOut, udp } from '../../lab/world-driver.ts';

/** Sum of all series of a metric. */
function sum(text: string, metric: string): number {
  const lines = text.split('\n').filter((line) => line.startsWith(`${metric}{`));
  expect(lines.length, metric).toBeGreaterThan(0);
  return lines.reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

/** Moved by some back-ends only: a poller neither exits nor rings nor is rung, and only QEMU reads the control queue's eventfd. */
const NOT_BY_ALL = new Set(
  ['vm_exits', 'kicks', 'kicks_suppressed', 'interrupts', 'syscalls'].map((name) => `ringside_${name}_total`),
);

test.each(BACKENDS)(
  'counters begin where booting left them, and only those that it moves have a beginning: %s',
  (backend) => {
    const world = makeWorld(pairDocument(backend));
    const reader = new RingReader(world.machine.arena.buffer as SharedArrayBuffer, world.machine.catalog);
    const metered: MeteredWorld = { reader, booted: bootCounts(reader) };
    const pairs: [string, string][] = MOVED_BY_BOOTING.map((name) => [
      `ringside_${name}_total`,
      `ringside_boot_${name}`,
    ]);
    pairs.push(['ringside_virtual_time_seconds', 'ringside_boot_virtual_time_seconds']);
    const before = worldMetrics([metered]);
    for (const [counter, boot] of pairs) {
      if (!NOT_BY_ALL.has(counter)) expect(sum(before, boot), boot).toBeGreaterThan(0);
      expect(sum(before, counter), counter).toBe(sum(before, boot));
    }
    for (const counter of ['received_frames_total', 'copies_total', 'traffic_seconds_total']) {
      expect(sum(before, `ringside_${counter}`), counter).toBe(0);
    }
    world.startTraffic(udp('a/net0', 'b/net0', { count: 100 }));
    runOut(world);
    const after = worldMetrics([metered]);
    for (const [counter, boot] of pairs) {
      expect(sum(after, boot), boot).toBe(sum(before, boot));
      if (!NOT_BY_ALL.has(counter)) expect(sum(after, counter), counter).toBeGreaterThan(sum(before, counter));
    }
  },
);
