/**
 * What the readers can do, as JSON lines: pcapng encoding, the event stream and a scrape, on a full ring of the default
 * size. Run with the pinned Node: `npx node test/bench/readers.ts`.
 */
import { captureChunks } from '../../src/readers/capture/capture.ts';
import { EventCursor } from '../../src/readers/events/event-cursor.ts';
import { EventFilter } from '../../src/readers/events/event-filter.ts';
import { JsonEncoder } from '../../src/readers/events/event-json.ts';
import { findJourney } from '../../src/readers/journey/journey.ts';
import { JourneyGroups } from '../../src/readers/journey/journey-groups.ts';
import { scrape, worldMetrics } from '../../src/readers/metrics/prometheus.ts';
import { FakeWorld } from '../unit/readers/fake-world.ts';
import { vhostNetFrame } from '../unit/readers/journeys.ts';
import { crowdedWorlds } from '../unit/readers/many-series.ts';

const ROUNDS = 5;
const FRAMES = 150_000;

/** The fastest of some rounds in seconds, with how long its steps held up the thread (ms). */
function best(run: () => Generator<unknown, number, undefined>): {
  seconds: number;
  amount: number;
  stepMs: { p99: number; longest: number };
} {
  let seconds = Number.POSITIVE_INFINITY;
  let amount = 0;
  const stepMs: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const started = performance.now();
    const steps = run();
    for (;;) {
      const before = performance.now();
      const step = steps.next();
      stepMs.push(performance.now() - before);
      if (step.done) {
        amount = step.value;
        break;
      }
    }
    seconds = Math.min(seconds, (performance.now() - started) / 1000);
  }
  stepMs.sort((x, y) => x - y);
  const at = (share: number): number => Number(stepMs[Math.floor((stepMs.length - 1) * share)]!.toFixed(2));
  return { seconds, amount, stepMs: { p99: at(0.99), longest: at(1) } };
}
const print = (row: Readonly<Record<string, number | string>>): void => console.log(JSON.stringify(row));

for (const length of [64, 1500]) {
  const w = new FakeWorld({ eventCapacity: 1 << 22, byteCapacity: 1 << 28 });
  for (let i = 0; i < FRAMES; i++) vhostNetFrame(w, i * 1000, length);
  w.publish();
  for (const view of ['journey', 'wire', 'events'] as const) {
    let rows = 0;
    const { seconds, amount, stepMs } = best(function* () {
      let bytes = 0;
      rows = 0;
      for (const chunk of captureChunks(w.reader, { view })) {
        bytes += chunk.length;
        yield;
      }
      rows = { journey: FRAMES * 8, wire: FRAMES, events: w.events }[view];
      return bytes;
    });
    print({
      bench: 'pcapng',
      view,
      frameBytes: length,
      megabytesPerSecond: Math.round(amount / seconds / 1e6),
      rowsPerSecond: Math.round(rows / seconds),
      eventsPerSecond: Math.round(w.events / seconds),
      stepP99Ms: stepMs.p99,
      stepLongestMs: stepMs.longest,
    });
  }
  if (length !== 64) continue;
  for (const events of ['*', 'guest.deliver']) {
    const result = best(function* () {
      const cursor = new EventCursor(
        w.reader,
        new EventFilter(w.catalog, { events }),
        new JsonEncoder(w.catalog, 'lines'),
        0,
      );
      let bytes = 0;
      for (let batch = cursor.next(); batch !== null; batch = cursor.next()) {
        bytes += batch.bytes.length;
        yield;
      }
      return bytes;
    });
    print({
      bench: 'event stream',
      events,
      eventsPerSecond: Math.round(w.events / result.seconds),
      megabytesPerSecond: Math.round(result.amount / result.seconds / 1e6),
      stepP99Ms: result.stepMs.p99,
      stepLongestMs: result.stepMs.longest,
    });
  }
  const grouped = best(function* () {
    const { frames } = yield* new JourneyGroups(w.reader).scan();
    return frames;
  });
  print({
    bench: 'journeys grouped by path',
    eventsPerSecond: Math.round(w.events / grouped.seconds),
    framesPerSecond: Math.round(grouped.amount / grouped.seconds),
    stepP99Ms: grouped.stepMs.p99,
    stepLongestMs: grouped.stepMs.longest,
  });
  const started = performance.now();
  for (let i = 1; i <= 200; i++) {
    const search = findJourney(w.reader, i * 700);
    while (!search.next().done);
  }
  print({ bench: 'journey', millisecondsPerFrame: Number(((performance.now() - started) / 200).toFixed(3)) });
}

const worlds = crowdedWorlds();
const samples = worldMetrics(worlds)
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#')).length;
for (const format of ['prometheus', 'openmetrics'] as const) {
  const result = best(function* () {
    let bytes = 0;
    for (const piece of scrape(worlds, { format })) {
      bytes += piece.length;
      yield;
    }
    return bytes;
  });
  print({
    bench: 'metrics',
    format,
    series: samples,
    milliseconds: Number((result.seconds * 1000).toFixed(1)),
    bytes: result.amount,
    stepP99Ms: result.stepMs.p99,
    stepLongestMs: result.stepMs.longest,
  });
}
