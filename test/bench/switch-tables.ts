/**
 * Forwarding between two guests with much in the switch's tables: `node test/bench/switch-tables.ts [<frames> [<runs>]]`. For each
 * preset three cases: one flow; 1,000 flows that lie under 100 masks; 10,000 source addresses that all are learned. Whole worlds, every
 * hop recorded; the frames are replayed at guest a as fast as it sends. Prints one JSON object for each case, with its share of the
 * first case's speed.
 *
 * The 100 masks are made by widening what translations un-wildcard: no table of OpenFlow flows brings a hundred by itself.
 */
import { parseTopology } from '../../src/lab/document.ts';
import { tuneEngine } from '../../src/lab/engine-flags.ts';
import { PRESETS } from '../../src/lab/presets.ts';
import { World } from '../../src/lab/world.ts';
import { OvsDatapath } from '../../src/machine/ovs/datapath/datapath.ts';
import type { SlowPath, Translation } from '../../src/machine/ovs/datapath/slow-path.ts';
import { W_NW_SRC, W_TP } from '../../src/machine/ovs/flow/flow.ts';
import { frame, pattern } from '../unit/machine/packet/frame-maker.ts';
import { spread } from './spread.ts';

const FRAMES = Number(process.argv[2] ?? 200_000);
const RUNS = Number(process.argv[3] ?? 5);
const plain = frame({ version: 4, protocol: 'udp', payload: pattern(18) });

interface Case {
  readonly name: string;
  readonly different: number;
  /** Makes frame `n` of `different`. */
  readonly vary: (bytes: Uint8Array, n: number) => void;
  readonly masks: number;
}
const put16 = (bytes: Uint8Array, at: number, n: number): void => {
  bytes[at] = n >>> 8;
  bytes[at + 1] = n & 255;
};
const CASES: readonly Case[] = [
  { name: 'one flow', different: 1, vary: () => {}, masks: 0 },
  { name: '1000 flows, 100 masks', different: 1000, vary: (bytes, n) => put16(bytes, 34, n + 1), masks: 100 },
  { name: '10000 addresses', different: 10_000, vary: (bytes, n) => put16(bytes, 10, n), masks: 0 },
];

/** Source port exactly, and some bits that one in a hundred has. */
function widened(slow: SlowPath, masks: number): SlowPath {
  const widen = (key: Int32Array, made: Translation | null): Translation | null => {
    if (made === null) return null;
    const mask = made.mask.slice();
    const port = ((key[W_TP]! & 0xff) << 8) | ((key[W_TP]! >>> 8) & 0xff);
    const which = port % masks;
    mask[W_TP]! |= 0xffff | (((1 << (which % 10)) - 1) << 16);
    mask[W_NW_SRC]! |= (1 << Math.trunc(which / 10)) - 1;
    return { ...made, mask };
  };
  return {
    upcall: (packet, now, contextBits) => widen(packet.key, slow.upcall(packet, now, contextBits)),
    revalidate: (key, now) => widen(key, slow.revalidate(key, now)),
    controller: (...args) => slow.controller(...args),
    get generation() {
      return slow.generation;
    },
  };
}

tuneEngine();
for (const preset of ['virtio-net', 'vhost-net', 'vhost-user']) {
  let first = 0;
  for (const { name, different, vary, masks } of CASES) {
    const found = PRESETS.find((p) => p.name === preset)!.document;
    const hosts = found.hosts.map((host) => ({
      ...host,
      bridges: (host.bridges ?? [{ name: 'br0' }]).map((bridge) => ({ ...bridge, macTableSize: 20_000 })),
    }));
    const parsed = parseTopology({ ...found, hosts }, { name: 'bench' });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
    const world = new World(parsed.topology);
    const { bridge: datapath } = world.machine.bridges[0]!;
    if (!(datapath instanceof OvsDatapath)) throw new Error('no bridge of Open vSwitch');
    if (masks > 0) datapath.slow = widened(datapath.slow, masks);
    const to = parsed.topology.hosts[0]!.guests[1]!.nics[0]!.mac;
    const from = parsed.topology.hosts[0]!.guests[0]!.nics[0]!.mac;
    const bytes = new Uint8Array(FRAMES * plain.length);
    for (let i = 0; i < FRAMES; i++) {
      const one = bytes.subarray(i * plain.length, (i + 1) * plain.length);
      one.set(plain);
      one.set(to, 0);
      one.set(from, 6);
      vary(one, i % different);
    }
    const lengths = new Uint32Array(FRAMES).fill(plain.length);
    const run = (id: string): number => {
      const cpu = process.cpuUsage();
      world.startFrames({ id, kind: 'replay', at: 'a/net0', bytes, lengths, times: null });
      while (world.turn(50) === 0);
      const used = process.cpuUsage(cpu);
      const result = world.run(id);
      if (result.state !== 'SUCCEEDED') throw new Error(`${preset}, ${name}: ${result.state} ${result.reason ?? ''}`);
      return result.sent / ((used.user + used.system) / 1e6);
    };
    // b says where it is, and everything that can be learned is
    world.startTraffic({
      id: 'hello',
      kind: 'ping',
      from: 'b/net0',
      to: 'a/net0',
      count: 1,
      frameSize: 64,
      rate: 0,
      generator: null,
      flows: 1,
    });
    while (world.turn(50) === 0);
    for (let i = 0; i < 4; i++) run(`warm-up${i}`);
    const speed = spread(Array.from({ length: RUNS }, (_, i) => run(`run${i}`)));
    if (first === 0) first = speed.median;
    console.log(
      JSON.stringify({
        bench: 'switch-tables',
        preset,
        case: name,
        datapathFlows: datapath.flowCount,
        masks: new Set(datapath.allFlows().map((flow) => flow.mask.join())).size,
        framesPerCpuSecond: speed,
        share: Number((speed.median / first).toFixed(2)),
      }),
    );
  }
}
