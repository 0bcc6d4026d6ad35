/** NICs of several queue pairs: where received frames go that steering has for a queue that is being reset, or not enabled. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { conservation } from '../../../src/lab/inspect.ts';
import { type ControlCommand, rssConfig, vqPairsSet } from '../../../src/machine/guest/net-commands.ts';
import { MICROSOFT_RSS_KEY } from '../../../src/machine/virtio/net/rss.ts';
import { BareDriver, bareWorld, CTRL_VQ, NEXT, WRITE } from './bare-driver.ts';
import { type Backend, runOut } from './world-driver.ts';

const MQ = 2 ** 22;
/** VIRTIO_F_VERSION_1, VIRTIO_F_RING_RESET and VIRTIO_NET_F_RSS, of bits 32 to 63. */
const [VERSION_1, RING_RESET, RSS] = [1, 2 ** 8, 2 ** 28];
const PAIRS = 4;
const CONTROL = 2 * PAIRS;
const SIZE = 64;
const BUFFER = 128;
const [RX_BUFFERS, COMMAND, ANSWER] = [0x8_0000, 0xe_0000, 0xe_0800];
/** So few that a ring of buffers is enough for a test. */
const FLOWS = 24;
const REASON = 'tap.queue_disabled';

/** One page for each queue: table, avail, used. */
function areas(queue: number): { desc: number; driver: number; device: number } {
  const desc = 0x1_0000 + 0x1000 * queue;
  return { desc, driver: desc + 0x400, device: desc + 0x600 };
}

/** A driver of guest a with four queue pairs, whose receive rings are full of buffers. */
class PairsDriver extends BareDriver {
  #commands = 0;
  #frames = 0;
  #before: number[] = [];

  constructor(backend: Backend = 'virtio-net') {
    super(bareWorld(backend, { queuePairs: PAIRS, features: { VIRTIO_NET_F_RSS: backend === 'virtio-net' } }));
  }
  /** Up to DRIVER_OK; `without` are receive queues that stay as they are. */
  bring(high = VERSION_1 + RING_RESET, without: readonly number[] = []): void {
    this.negotiate(CTRL_VQ + MQ, high);
    for (let queue = 0; queue <= CONTROL; queue++)
      if ((queue & 1) === 1 || !without.includes(queue >> 1)) this.place(queue, areas(queue), SIZE);
    this.status(15);
    this.#commands = 0;
    for (let pair = 0; pair < PAIRS; pair++) if (!without.includes(pair)) this.fill(pair);
  }
  /** All of a receive ring's buffers, from index 0 on. */
  fill(pair: number): void {
    const { desc, driver } = areas(2 * pair);
    for (let i = 0; i < SIZE; i++) {
      const addr = RX_BUFFERS + (pair * SIZE + i) * BUFFER;
      this.descriptor(desc, i, { addr, len: BUFFER, flags: WRITE });
      this.write16(driver + 4 + 2 * i, i);
    }
    this.write16(driver + 2, SIZE);
    this.kick(2 * pair);
  }
  command({ class: about, cmd, data }: ControlCommand): void {
    const { desc, driver } = areas(CONTROL);
    const bytes = Uint8Array.from([about, cmd, ...data.flatMap((segment) => [...segment])]);
    this.write(COMMAND, bytes);
    this.write(ANSWER, Uint8Array.of(0xff));
    this.descriptor(desc, 0, { addr: COMMAND, len: bytes.length, flags: NEXT, next: 1 });
    this.descriptor(desc, 1, { addr: ANSWER, len: 1, flags: WRITE });
    this.write16(driver + 4 + 2 * (this.#commands % SIZE), 0);
    this.write16(driver + 2, ++this.#commands);
    this.kick(CONTROL);
    assert.equal(this.ram('a')[ANSWER], 0, 'VIRTIO_NET_OK');
  }
  /** The pair's receive queue is reset. */
  resetRx(pair: number): void {
    this.common(22, 2, 2 * pair);
    this.common(58, 2, 1);
  }
  /** And is there again, with or without buffers. */
  enableRx(pair: number, filled = true): void {
    const { driver, device } = areas(2 * pair);
    this.write16(driver + 2, 0);
    this.write16(device + 2, 0);
    this.place(2 * pair, areas(2 * pair), SIZE);
    if (filled) this.fill(pair);
  }
  /** Frames of FLOWS flows come in at the bridge, or one that is not IP. Returns how many each receive queue got of them. */
  arrivals(kind: 'flows' | 'other' = 'flows'): number[] {
    this.#before = this.used();
    this.inject(`f${++this.#frames}`, kind);
    return this.since();
  }
  /** By receive queue: what came since the frames of the last arrivals() were sent. */
  since(): number[] {
    return this.used().map((n, pair) => n - this.#before[pair]!);
  }
  used(): number[] {
    return Array.from({ length: PAIRS }, (_, pair) => this.read16(areas(2 * pair).device + 2));
  }
  override inject(id: string, kind: 'flows' | 'other' = 'flows'): void {
    const count = kind === 'flows' ? FLOWS : 1;
    const bytes = new Uint8Array(60 * count);
    for (let i = 0; i < count; i++) {
      bytes.set([0x52, 0x54, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x88, 0xb5], 60 * i);
      if (kind === 'other') continue;
      bytes.set([8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1], 60 * i + 12);
      bytes.set([0x40, i, 0, 9, 0, 26], 60 * i + 34);
    }
    const lengths = new Uint32Array(count).fill(60);
    this.world.startFrames({ id, kind: 'frames', at: 'br0/b.net0', bytes, lengths, times: null });
    runOut(this.world);
  }
  /** Dropped because there was no queue for them; every frame is somewhere. */
  get dropped(): number {
    const { dropped, holds } = conservation(this.world.machine);
    assert.ok(holds);
    assert.deepEqual(
      Object.keys(dropped).filter((reason) => reason !== REASON),
      [],
    );
    return dropped[REASON] ?? 0;
  }
}
const total = (arrived: readonly number[]): number => arrived.reduce((n, m) => n + m, 0);
const who = (arrived: readonly number[]): number[] => arrived.flatMap((n, pair) => (n > 0 ? [pair] : []));

describe('steered by the tap', () => {
  test('the first receive queue until more are set and after a reset, and none beyond what was set {net.ctrl.mq.5} {net.ctrl.mq.6}', () => {
    const driver = new PairsDriver();
    driver.bring();
    assert.deepEqual(driver.arrivals(), [FLOWS, 0, 0, 0]);
    driver.command(vqPairsSet(3));
    const three = driver.arrivals();
    assert.deepEqual([who(three), total(three)], [[0, 1, 2], FLOWS]);
    driver.command(vqPairsSet(4));
    driver.status(0);
    for (let pair = 0; pair < PAIRS; pair++) driver.write16(areas(2 * pair).device + 2, 0);
    driver.bring();
    assert.deepEqual(driver.arrivals(), [FLOWS, 0, 0, 0]);
    assert.equal(driver.dropped, 0);
  });

  test('a queue that is being reset gets nothing, another one gets its frames {net.ctrl.mq.7}', () => {
    const driver = new PairsDriver();
    driver.bring();
    driver.command(vqPairsSet(3));
    const usual = driver.arrivals();
    assert.deepEqual(who(usual), [0, 1, 2]);
    driver.resetRx(1);
    assert.deepEqual(driver.arrivals(), [usual[0], 0, usual[1]! + usual[2]!, 0]);
    driver.resetRx(2);
    assert.deepEqual(driver.arrivals(), [FLOWS, 0, 0, 0]);
    for (const pair of [1, 2]) driver.enableRx(pair);
    assert.deepEqual(driver.arrivals(), usual, 'each queue its own again');
    assert.equal(driver.dropped, 0);
  });

  test('frames that wait for a queue when it is reset go to another one {net.ctrl.mq.7}', () => {
    const driver = new PairsDriver();
    driver.bring();
    driver.command(vqPairsSet(2));
    const usual = driver.arrivals();
    assert.ok(usual[1]! > 0);
    driver.resetRx(1);
    driver.enableRx(1, false);
    assert.deepEqual(driver.arrivals(), [usual[0], 0, 0, 0], 'no buffers');
    assert.equal(conservation(driver.world.machine).inFlight, usual[1]);
    driver.resetRx(1);
    runOut(driver.world);
    assert.deepEqual(driver.since(), [FLOWS, 0, 0, 0]);
    assert.equal(driver.dropped, 0);
  });

  test('frames are dropped while every receive queue in use is being reset, and do not come later {net.ctrl.mq.8}', () => {
    const driver = new PairsDriver();
    driver.bring();
    driver.command(vqPairsSet(3));
    const usual = driver.arrivals();
    for (const pair of [0, 1, 2]) driver.resetRx(pair);
    assert.deepEqual(driver.arrivals(), [0, 0, 0, 0], 'queue 3 is beyond the set number');
    assert.equal(driver.dropped, FLOWS);
    for (const pair of [0, 1, 2]) driver.enableRx(pair);
    assert.deepEqual(driver.used().slice(0, 3), [0, 0, 0]);
    assert.deepEqual(driver.arrivals(), usual);
    assert.equal(driver.dropped, FLOWS);
    // a reset of the device ends it, too: frames wait for the next driver
    for (const pair of [0, 1, 2]) driver.resetRx(pair);
    driver.status(0);
    for (let pair = 0; pair < PAIRS; pair++) driver.write16(areas(2 * pair).device + 2, 0);
    assert.deepEqual(driver.arrivals(), [0, 0, 0, 0]);
    driver.bring();
    assert.deepEqual(driver.since(), [FLOWS, 0, 0, 0]);
    assert.equal(driver.dropped, FLOWS);
  });

  test.each(['virtio-net', 'vhost-net'] as const)('%s: a queue that was never enabled gets nothing', (backend) => {
    const driver = new PairsDriver(backend);
    driver.bring(VERSION_1, [1]);
    driver.command(vqPairsSet(3));
    const arrived = driver.arrivals();
    assert.deepEqual([who(arrived), total(arrived)], [[0, 2], FLOWS]);
    assert.equal(driver.dropped, 0);
  });
});

test('with RSS frames for a queue that is being reset are dropped, and those for others come {net.ctrl.rss.8}', () => {
  const driver = new PairsDriver();
  driver.bring(VERSION_1 + RING_RESET + RSS);
  const configure = (table: readonly number[]): void =>
    driver.command(
      rssConfig({ hashTypes: 0x3f, table, unclassifiedQueue: 1, queuePairs: PAIRS, key: MICROSOFT_RSS_KEY }),
    );
  configure([2, 3]);
  const usual = driver.arrivals();
  assert.deepEqual([who(usual), total(usual)], [[2, 3], FLOWS]);
  assert.deepEqual(driver.arrivals('other'), [0, 1, 0, 0]);
  driver.resetRx(3);
  assert.deepEqual(driver.arrivals(), [0, 0, usual[2], 0]);
  assert.equal(driver.dropped, usual[3]);
  assert.deepEqual(driver.arrivals('other'), [0, 1, 0, 0]);
  driver.enableRx(3);
  assert.equal(driver.used()[3], 0, 'what was dropped does not come later');
  assert.equal(driver.arrivals('other')[1], 1);
  driver.resetRx(1);
  assert.deepEqual(driver.arrivals('other'), [0, 0, 0, 0], 'frames without a hash, too');
  assert.equal(driver.dropped, usual[3]! + 1);
});
