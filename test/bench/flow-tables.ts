/**
 * Lookups of both datapaths, without anything around them: one flow, 1,000 flows under 100 masks, 10,000 addresses that talk to their
 * neighbours. `node test/bench/flow-tables.ts [<frames>]` prints one JSON object for each case.
 */
import { OvsBridge } from '../../src/machine/ovs/datapath/bridge.ts';
import { KernelDatapath } from '../../src/machine/ovs/datapath/kernel-datapath.ts';
import { NO_CREDITS } from '../../src/machine/ovs/datapath/megaflow-table.ts';
import {
  DP_WORDS,
  W_ETH,
  W_ETH_TYPE,
  W_IN_PORT,
  W_NW,
  W_NW_SRC,
  W_RECIRC_ID,
  W_TP,
} from '../../src/machine/ovs/flow/flow.ts';
import { datapathOf, KeepingPort, KINDS, type Kind } from '../unit/machine/ovs/datapath/switch.ts';
import { Bare } from '../unit/machine/packet/bare-services.ts';
import { frame, pattern } from '../unit/machine/packet/frame-maker.ts';

const FRAMES = Number(process.argv[2] ?? 1_000_000);
/** Enough misses for each of 1,000 flows to get into the exact match cache. */
const WARM_UP = 1_000_000;

function base(): Int32Array {
  const mask = new Int32Array(DP_WORDS);
  mask[W_IN_PORT] = -1;
  mask[W_RECIRC_ID] = -1;
  mask[W_ETH_TYPE] = 0xffff;
  mask[W_NW] = 0xff000000 | 0;
  return mask;
}
/** The mask of one of a hundred: some bits of the source address and of the ports. */
function maskOf(n: number): Int32Array {
  const mask = base();
  mask[W_NW_SRC] = -1 << (n % 10);
  mask[W_TP] = (-1 << (n % 100 < 10 ? 0 : Math.trunc(n / 10) % 10)) | 0xffff;
  return mask;
}
function addresses(): Int32Array {
  const mask = base();
  for (let i = 0; i < 3; i++) mask[W_ETH + i] = -1;
  return mask;
}

interface Case {
  readonly name: string;
  readonly frames: readonly Uint8Array[];
  readonly mask: (key: Int32Array) => Int32Array;
}
const plain = frame({ version: 4, protocol: 'udp', payload: pattern(18) });
const flows = Array.from({ length: 1000 }, (_, i) =>
  frame({ version: 4, protocol: 'udp', payload: pattern(18), ports: [i + 1, 5000] }),
);
const macs = Array.from({ length: 10_000 }, (_, i) => {
  const bytes = Uint8Array.from(plain);
  const set = (at: number, n: number): void => {
    bytes[at] = n >>> 8;
    bytes[at + 1] = n & 255;
  };
  set(4, (i + 1) % 10_000);
  set(10, i);
  return bytes;
});
const portOf = (key: Int32Array): number => ((key[W_TP]! & 0xff) << 8) | ((key[W_TP]! >>> 8) & 0xff);
const MASKS = Array.from({ length: 100 }, (_, n) => maskOf(n));
const MACS = addresses();
const CASES: readonly Case[] = [
  { name: 'one flow', frames: [plain], mask: addresses },
  { name: '1000 flows, 100 masks', frames: flows, mask: (key) => MASKS[portOf(key) % 100]! },
  { name: '10000 addresses', frames: macs, mask: () => MACS },
];

function measure(kind: Kind, { name, frames, mask }: Case): void {
  const bare = new Bare(64, {}, 1, 1 << 20);
  const { services } = bare;
  const { recorder, pool, arena } = services;
  // the ring alone: a test's list of events is no part of it
  recorder.event = Object.getPrototypeOf(recorder).event.bind(recorder);
  const datapath = datapathOf(kind, services);
  datapath.slow = {
    upcall: ({ key }) => ({
      actions: [{ type: 'output', port: 2 }],
      mask: mask(key),
      credits: NO_CREDITS,
      install: true,
      slow: null,
    }),
    revalidate: () => null,
    controller: () => {},
    generation: 0,
  };
  const bridge = new OvsBridge('br0', 100, datapath);
  bridge.addPort(new KeepingPort(services, 1, () => {}));
  bridge.addPort(new KeepingPort(services, 2, () => {}));
  for (const [i, bytes] of frames.entries()) arena.u8.set(bytes, bare.scratch + 64 * i);
  const bytes = frames[0]!.length;
  let next = 0;
  const run = (count: number): void => {
    for (let i = 0; i < count; i++) {
      const packet = pool.alloc();
      const slot = pool.slot(packet);
      arena.u32.fill(0, slot >> 2, (slot >> 2) + 3);
      services.copy(pool.at(packet), bare.scratch + 64 * next, bytes);
      if (++next === frames.length) next = 0;
      pool.length[packet] = bytes;
      pool.frame[packet] = 1;
      pool.inPort[packet] = 1;
      datapath.process(packet, 0);
      if (datapath instanceof KernelDatapath) while (datapath.upcallsWaiting > 0) datapath.upcall(0);
      if (recorder.due) recorder.publish(0);
    }
  };
  run(WARM_UP);
  const rounds = Array.from({ length: 5 }, () => {
    const cpu = process.cpuUsage();
    run(FRAMES);
    const { user, system } = process.cpuUsage(cpu);
    return ((user + system) * 1000) / FRAMES;
  }).sort((a, b) => a - b);
  console.log(
    JSON.stringify({
      bench: 'flow-tables',
      datapath: kind,
      case: name,
      flows: datapath.flowCount,
      cpuNanosecondsPerFrame: { min: Math.round(rounds[0]!), median: Math.round(rounds[2]!) },
    }),
  );
}
for (const kind of KINDS) for (const one of CASES) measure(kind, one);
