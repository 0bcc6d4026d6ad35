/**
 * Rings alone, without a world: a driver posts bursts of 32 transmit buffers of 64 bytes, a device takes, copies and gives
 * them back, the driver takes them back. JSON lines: chains per second of each format with event idx on and off, and packed
 * against split as the median of ratios of neighbouring rounds, so that the machine's other work falls out.
 *
 * usage: rings.ts [rounds]
 */
import { AddressSpace } from '../../src/machine/memory/address-space.ts';
import { Arena } from '../../src/machine/memory/arena.ts';
import type { DeviceQueue } from '../../src/machine/virtio/queue/device-queue.ts';
import type { DriverQueue } from '../../src/machine/virtio/queue/driver-queue.ts';
import { makeDeviceQueue, makeDriverQueue } from '../../src/machine/virtio/queue/ring-queues.ts';

const rounds = Number(process.argv[2] ?? 15);
const SIZE = 256;
const BURST = 32;
const BURSTS = 20_000;
const DESC = 0x1000;
const AVAIL = 0x2000;
const USED = 0x2240;
const BUFFERS = 0x1_0000;
const SCRATCH = 0x3_0000;
const BYTES = 76;

class Bench {
  private readonly device: DeviceQueue;
  private readonly driver: DriverQueue;
  kicks = 0;
  interrupts = 0;

  constructor(packed: boolean, eventIdx: boolean) {
    const arena = new Arena(4 * 65536);
    const space = new AddressSpace();
    space.map(0, SCRATCH, 0);
    const common = { packed, size: SIZE, eventIdx, frameOf: new Int32Array(SIZE) };
    this.device = makeDeviceQueue(arena, arena.code.copy, {
      ...common,
      ...{ desc: DESC, avail: AVAIL, used: USED, mrgRxbuf: true, indirect: true, space },
    });
    this.driver = makeDriverQueue(arena, {
      ...common,
      ...{ descGpa: DESC, driverGpa: AVAIL, deviceGpa: USED, ram: 0, indirectGpa: 0 },
    });
  }

  /** Chains per second of one round. */
  round(): number {
    const { driver, device } = this;
    const began = performance.now();
    for (let b = 0; b < BURSTS; b++) {
      for (let i = 0; i < BURST; i++) driver.add(BUFFERS + driver.nextHead * 128, BYTES, 0, 1);
      driver.publish();
      if (driver.kickWanted()) this.kicks++;
      for (let n = device.available(); n > 0; n--) {
        device.dequeue(SCRATCH, 2048);
        device.putUsed(device.head, 0);
      }
      device.publishUsed();
      if (device.interruptWanted()) this.interrupts++;
      for (let n = driver.usedReady(); n > 0; n--) driver.takeUsed();
    }
    return (BURST * BURSTS) / ((performance.now() - began) / 1000);
  }
}

const median = (all: readonly number[]): number => [...all].sort((a, b) => a - b)[all.length >> 1]!;
for (const eventIdx of [false, true]) {
  const split = new Bench(false, eventIdx);
  const packed = new Bench(true, eventIdx);
  const speeds = { split: [] as number[], packed: [] as number[] };
  for (let i = -2; i < rounds; i++) {
    const [s, p] = [split.round(), packed.round()];
    if (i < 0) continue; // code that is not compiled yet
    speeds.split.push(s);
    speeds.packed.push(p);
  }
  console.log(
    JSON.stringify({
      bench: 'rings',
      eventIdx,
      splitChainsPerSecond: Math.round(median(speeds.split)),
      packedChainsPerSecond: Math.round(median(speeds.packed)),
      packedToSplit: Number(median(speeds.packed.map((p, i) => p / speeds.split[i]!)).toFixed(2)),
    }),
  );
}
