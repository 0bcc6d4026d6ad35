/**
 * The shapes that published measurements agree on: how back-ends, loads and features compare, with the cost table's defaults. A
 * shape is a number with a band that is as wide as the sources differ; it holds where the number lies in the band.
 */
import type { JobResult, JobTraffic } from '../src/lab/job/job.ts';
import type { Predictions } from './predictions.ts';
import { type Ask, frames, NOT_STATED, OVERLOAD, overloadMpps, runOf, tcpGbps } from './scenario.ts';
import { twoGuests, wireToWire } from './setups.ts';

export interface Shape {
  readonly id: string;
  readonly says: string;
  readonly unit: string;
  /** From and to, both inclusive. */
  readonly band: readonly [number, number];
  /** Points whose predictions it is made of. */
  readonly points?: readonly [string, string];
  readonly clockGhz: number;
  readonly asks: readonly Ask[];
  /** The shape's number, of its own results, or of its points' predictions. */
  readonly value: (results: readonly JobResult[], points: readonly number[]) => number;
}

const quotient = (_: readonly JobResult[], [a, b]: readonly number[]): number => a! / b!;

function ofPoints(id: string, says: string, band: readonly [number, number], points: readonly [string, string]): Shape {
  return { id, says, unit: 'times', band, points, clockGhz: NOT_STATED, asks: [], value: quotient };
}

const kernelGuests = twoGuests({ backend: 'vhost-net', datapath: 'system' });
const udp = (more: Partial<JobTraffic>): JobTraffic => ({
  kind: 'udp',
  from: 'a/net0',
  to: 'b/net0',
  frameSize: 64,
  ...more,
});
/** VM exits of both guests for each frame that arrives. */
function exits(results: readonly JobResult[]): number {
  const { perFrame } = runOf(results);
  return perFrame.exitsKernel + perFrame.exitsUserspace;
}

/**
 * A netdev bridge without EMC, and as many flows as subtables, in turns: each has fields that no other has, and those of all flows
 * above it, which had to be looked at.
 */
function subtables(count: number): Ask {
  const further = ['', ',nw_tos=0', ',nw_ttl=64', ',tp_dst=9', ',nw_dst=198.18.0.2'];
  const flows = further
    .slice(0, count)
    .map((fields, i) => `priority=${100 - i},udp,in_port=eth0,tp_src=${49152 + i}${fields},actions=output:eth1`);
  return {
    document: wireToWire({
      datapath: 'netdev',
      speed: '25Gbps',
      otherConfig: { 'emc-insert-inv-prob': '0' },
      flows,
    }),
    traffic: [{ ...frames('eth0', 'eth1', 64), flows: count }],
    measure: { ...OVERLOAD, duration: '5ms' },
  };
}
const MOST_SUBTABLES = 5;

export const SHAPES: readonly Shape[] = [
  ofPoints(
    'p2p',
    'wire to wire the netdev datapath forwards about 6 times what the kernel datapath does, for each core',
    [4.3, 8.1],
    ['sig21-f8a-d1000', 'sig21-f8a-k1'],
  ),
  ofPoints(
    'pvp-lossless',
    'through a polling guest vhost-user forwards about 7 times what vhost-net does, without loss',
    [5, 9.4],
    ['sig21-f8b-d1000', 'sig21-f8b-k1000'],
  ),
  ofPoints(
    'pvp-overload',
    'with more offered than either can carry it is far more: vhost-net spends its time on frames that are lost later',
    [20, 200],
    ['ovsperf-1000f-64', 'ovsperf-kernel-64'],
  ),
  ofPoints(
    'udp-guests',
    'a guest with a Linux stack gains little from it in datagrams per second',
    [0.8, 1.4],
    ['cx5-od-pps', 'cx5-vn-pps'],
  ),
  {
    id: 'tso',
    says: 'with TSO, vhost-net carries more TCP than vhost-user without',
    unit: 'times',
    band: [1.5, 20],
    clockGhz: NOT_STATED,
    asks: [
      { document: kernelGuests, traffic: [{ kind: 'tcp', from: 'a/net0', to: 'b/net0', duration: '20ms' }] },
      {
        document: twoGuests({ backend: 'vhost-user', datapath: 'netdev' }),
        traffic: [{ kind: 'tcp', from: 'a/net0', to: 'b/net0', duration: '20ms' }],
      },
    ],
    value: ([tap, user]) => tcpGbps([tap!]) / tcpGbps([user!]),
  },
  {
    id: 'exits-depth-one',
    says: 'vhost-net with one frame under way at a time: an exit for each',
    unit: 'exits a frame',
    band: [0.95, 1.05],
    clockGhz: NOT_STATED,
    asks: [{ document: kernelGuests, traffic: [udp({ count: 100, rate: 1000 })] }],
    value: exits,
  },
  {
    id: 'exits-saturated',
    says: 'vhost-net saturated: the worker is behind and asks for no notification',
    unit: 'exits a frame',
    band: [0, 0.05],
    clockGhz: NOT_STATED,
    asks: [{ document: kernelGuests, traffic: [udp({ duration: '20ms', rate: 'max' })] }],
    value: exits,
  },
  {
    id: 'subtables',
    says: 'each further subtable that the netdev datapath asks takes 72 to 73 ns',
    unit: 'ns',
    band: [70, 76],
    clockGhz: NOT_STATED,
    asks: [subtables(1), subtables(MOST_SUBTABLES)],
    // frames of five flows in turns meet three subtables on average
    value: ([one, most]) => (1e3 / overloadMpps([most!]) - 1e3 / overloadMpps([one!])) / ((MOST_SUBTABLES + 1) / 2 - 1),
  },
];

/** True where the shape's number lies in its band. */
export function holds(predictions: Predictions, { id, band }: Shape): boolean {
  const value = predictions.shapes[id]!;
  return value >= band[0] && value <= band[1];
}
