/** Each class of what a driver can get wrong, on each back-end and in either ring format; docs/robustness.md has the table. */
import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { conservation } from '../../../src/lab/inspect.ts';
import { readText } from '../../tools/source.ts';
import { BareDriver, bareWorld, RX_BUFFER, SIZE, WRITE } from './bare-driver.ts';
import { CHAINS, COMMANDS, HEADERS, INDICES, type Malformed, type Outcome, REGISTERS } from './malformed.ts';
import { BACKENDS, type Backend, collect, placeId, type SeenEvent } from './world-driver.ts';

const NEEDS_RESET = 0x40;
/** Steps of the world for whatever one class does: a few frames, wake-ups and polls. */
const MOST_STEPS = 400;

const RINGS_OF: readonly (readonly [Backend, boolean])[] = [
  ['virtio-net', false],
  ['virtio-net', true],
  ['vhost-net', false],
  ['vhost-user', false],
  ['vhost-user', true],
];
const classesFor = (
  classes: readonly Malformed[],
  backend: Backend,
  packed: boolean,
): readonly (readonly [string, Malformed])[] =>
  classes
    .filter(({ format }) => format === undefined || (format === 'packed') === packed)
    .filter(({ backends }) => backends === undefined || backends.includes(backend))
    .map((malformed) => [malformed.what, malformed]);

interface Before {
  readonly driver: BareDriver;
  readonly others: readonly Uint8Array[];
  readonly events: SeenEvent[];
}
function prepare(backend: Backend, packed: boolean, { features = 0, early = false }: Malformed): BareDriver {
  const driver = new BareDriver(bareWorld(backend, { packed }), packed);
  if (early) driver.negotiate(features);
  else driver.bringUp(features);
  return driver;
}
function play(driver: BareDriver, malformed: Malformed): Before {
  const { machine } = driver.world;
  const events = collect(
    machine,
    ...[
      E.VIRTIO_NET_CTRL,
      E.VIRTQ_ERROR,
      E.VIRTIO_NEEDS_RESET,
      E.VIRTIO_CONFIG_CHANGE,
      E.VIRTIO_REJECTED,
      E.GUEST_MEMORY_WRITE,
    ],
  );
  const others = ['before', 'after', 'b'].map((guest) => driver.ram(guest).slice());
  const before = machine.recorder.events;
  malformed.does(driver);
  assert.ok(machine.recorder.events - before < MOST_STEPS, 'the work is bounded');
  return { driver, others, events };
}

function check({ driver, events }: Before, { queue, early = false }: Malformed, outcome: Outcome): void {
  const { machine } = driver.world;
  const place = placeId(machine, `a/net0/${['rx0', 'tx0', 'ctrl'][queue]}`);
  const errors = events.filter((e) => e.kind === E.VIRTQ_ERROR);
  const resets = events.filter((e) => e.kind === E.VIRTIO_NEEDS_RESET);
  const rejected = events.filter((e) => e.kind === E.VIRTIO_REJECTED);
  const { status } = driver.device;
  switch (outcome.is) {
    case 'returned':
    case 'skipped': {
      expect(errors.map((e) => [e.place, e.a])).toEqual([[place, outcome.code]]);
      assert.equal(status, 15, 'the device is as it was');
      const back = outcome.is === 'returned' ? 1 : 0;
      if (driver.packed) {
        const { desc } = driver.areas(queue);
        // virtio 1.2 §2.8.1: used where AVAIL and USED are alike
        const flags = driver.read16(desc + 14);
        assert.equal(((flags >>> 7) & 1) === ((flags >>> 15) & 1), back === 1);
        if (back === 1) assert.equal(driver.read32(desc + 8), 0, 'nothing was written');
      } else {
        assert.equal(driver.usedIdx(queue), back);
        if (back === 1) expect(driver.usedEntry(queue, 0)).toEqual({ id: 0, len: 0 });
      }
      return;
    }
    case 'reset': {
      assert.equal(status & NEEDS_RESET, NEEDS_RESET);
      expect(resets.map((e) => [e.place, e.a, e.b])).toEqual([[placeId(machine, 'a/net0'), outcome.reason, queue]]);
      const told = events.some((e) => e.kind === E.VIRTIO_CONFIG_CHANGE && (e.b & NEEDS_RESET) !== 0);
      // virtio 1.2 §2.1.2: a configuration change notification where DRIVER_OK is set
      assert.equal(told, !early);
      assert.equal(driver.access('isr', 0, 1, null) & 2, early ? 0 : 2);
      return;
    }
    case 'answered':
    case 'unanswered': {
      const written = outcome.is === 'answered' ? 1 : 0;
      const commands = events.filter((e) => e.kind === E.VIRTIO_NET_CTRL);
      expect(commands.map((e) => [e.place, e.b])).toEqual([[place, 1]]);
      if (driver.packed) assert.equal(driver.read32(driver.areas(2).desc + 8), written);
      else expect([driver.usedIdx(2), driver.usedEntry(2, 0)]).toEqual([1, { id: 0, len: written }]);
      assert.equal(driver.ram('a')[0x7_0000], outcome.is === 'answered' ? 1 : 0xee);
      assert.equal(status, 15);
      return;
    }
    case 'ignored':
      assert.ok(rejected.length > 0, 'it has an event');
      assert.equal(status & NEEDS_RESET, 0);
      assert.equal(errors.length, 0);
  }
}

/** Of the guest's RAM only the used rings are written to, or packed the descriptors and the device's event structure. */
function untouched(driver: BareDriver, others: readonly Uint8Array[], malformed: Malformed): void {
  const own = driver.ram('a');
  const buffer = malformed.buffer ?? { at: 0, length: 0 };
  const areas = [0, 1, 2].map((queue) => driver.areas(queue));
  const mayWrite = (at: number): boolean =>
    areas.some(
      ({ desc, device }) => at >= (driver.packed ? desc : device) && at < device + (driver.packed ? 4 : 6 + 8 * SIZE),
    );
  for (let at = 0; at < own.length; at++) {
    if (own[at] === driver.written[at] || mayWrite(at) || (at >= buffer.at && at < buffer.at + buffer.length)) continue;
    assert.fail(`${malformed.what}: byte 0x${at.toString(16)} of the guest's memory`);
  }
  for (const [i, guest] of ['before', 'after', 'b'].entries())
    assert.ok(Buffer.compare(driver.ram(guest), others[i]!) === 0, `memory of ${guest}`);
}

/** And the next good frame goes out, and its answer comes in: after a reset where the device asked for one. */
function goesOn(driver: BareDriver, malformed: Malformed): void {
  const { outcome } = malformed;
  if (outcome.is === 'reset' || malformed.early === true) {
    driver.write(0x1_0000, new Uint8Array(0x2_0000));
    driver.bringUp();
    driver.give(0, [{ addr: RX_BUFFER, len: 2048, flags: WRITE }]);
    driver.give(1, [driver.arp()]);
    const [tx, rx] = [1, 0].map((queue) =>
      driver.packed ? driver.read32(driver.areas(queue).desc + 8) : driver.usedIdx(queue),
    );
    if (driver.packed) assert.ok(rx! >= 12 + 42 && tx === 0);
    else expect([tx, rx]).toEqual([1, 1]);
  } else if (malformed.queue !== 0) {
    driver.give(0, [{ addr: RX_BUFFER, len: 2048, flags: WRITE }]);
    driver.give(1, [driver.arp()]);
    assert.ok(
      driver.read32(RX_BUFFER + 12) === 0x0054_5200 + 0x52 || driver.ram('a')[RX_BUFFER + 12] === 0x52,
      'an answer for us',
    );
  }
  expect(driver.world.failed).toBe(null);
  expect(conservation(driver.world.machine).holds).toBe(true);
}

describe.each(RINGS_OF)('%s, packed %s', (backend, packed) => {
  test.each(classesFor([...CHAINS, ...INDICES, ...HEADERS, ...COMMANDS, ...REGISTERS], backend, packed))(
    '%s',
    (_, malformed) => {
      const driver = prepare(backend, packed, malformed);
      const result = play(driver, malformed);
      check(result, malformed, malformed.outcome);
      untouched(driver, result.others, malformed);
      goesOn(driver, malformed);
    },
  );
});

/** Event and outcome as the page says them. */
function rowOf(o: Outcome): string {
  switch (o.is) {
    case 'returned':
      return `\`virtq.error\` ${o.code} | the chain comes back with length 0`;
    case 'skipped':
      return `\`virtq.error\` ${o.code} | skipped: there is nothing that can come back`;
    case 'reset':
      return `\`virtio.needs_reset\` ${o.reason} | \`DEVICE_NEEDS_RESET\``;
    case 'answered':
      return '`virtio_net.ctrl`, ack 1 | answered with `VIRTIO_NET_ERR`';
    case 'unanswered':
      return '`virtio_net.ctrl`, ack 1 | the chain comes back with length 0';
    case 'ignored':
      return '`virtio.rejected` | ignored';
  }
}
test('every class is in the table of docs/robustness.md, with its outcome', () => {
  const page = readText('docs/robustness.md');
  const rows = new Set(page.split('\n').filter((line) => line.startsWith('| ')));
  const expected = [...CHAINS, ...INDICES, ...HEADERS, ...COMMANDS, ...REGISTERS].map(
    (m) => `| ${m.what} | ${rowOf(m.outcome)} |`,
  );
  for (const row of expected) assert.ok(rows.has(row), row);
  expect(BACKENDS.length).toBe(3);
});
