/** Metrics of the network: NICs, bridges, hops and latencies. */
import * as E from '../../engine/events.ts';
import { latencyAt } from '../../engine/latency.ts';
import { hopKindsOf, isRx } from '../place-kinds.ts';
import {
  AT_PLACE,
  counted,
  counter,
  countOf,
  type Family,
  latency,
  NIC,
  perBridge,
  perNic,
  type Series,
  sumOf,
} from './prometheus-family.ts';
import type { WorldNames } from './prometheus-labels.ts';

const HOP = ['topology', 'place', 'type', 'guest', 'nic', 'backend', 'bridge', 'queue', 'stage', 'direction'] as const;

/** One series for each hop and each kind that is seen there; one at a time, as there are many. */
function* perHop(
  w: WorldNames,
  element: (place: number, kind: number) => number,
  wanted: (kind: number) => boolean,
): Generator<Series> {
  for (const p of w.catalog.places) {
    for (const k of hopKindsOf(p)) {
      if (!wanted(k)) continue;
      const { name, hop } = E.KIND_BY_ID[k]!;
      const { nic = '', queue = '' } = p;
      const labels = [w.catalog.topology, p.name, p.type, w.guest(p), nic, w.backend(p), w.bridge(p), queue, name];
      yield counted([...labels, hop ?? ''], [element(p.id, k)]);
    }
  }
}
/** One histogram for each of them. */
function* hopLatencies(w: WorldNames): Generator<Series> {
  for (const p of w.catalog.places) {
    for (const k of hopKindsOf(p)) {
      const labels = [w.catalog.topology, p.name, E.KIND_BY_ID[k]!.name, w.guest(p), p.nic ?? '', w.backend(p)];
      yield histogram(labels, p.id, [k]);
    }
  }
}
const sumsBytes = (kind: number): boolean => E.KIND_BY_ID[kind]!.a === 'bytes';

const histogram = (labels: readonly string[], place: number, kinds: readonly number[]): Series => ({
  labels,
  from: 'histograms',
  elements: kinds.map((k) => latencyAt(place, k)),
});

/** Which frames the histograms are made of: engine/latency.ts. */
const SAMPLED =
  '; of each of the first 65,536 frames, then of every 64th group of 64, each frame of which counts 64 times';

/** Those that dashboards live on. */
export const NETWORK_FAMILIES: readonly Family[] = [
  counter(
    'sent_frames_total',
    'Frames that a guest driver put into its transmit queue.',
    NIC,
    (w) => perNic(w, ['driver'], [E.GUEST_XMIT]),
    { counterpart: 'TX `packets` of `ip -s link` in the guest; `tx_packets_count` (Firecracker)' },
  ),
  counter(
    'sent_bytes_total',
    'Bytes of the frames that a guest driver put into its transmit queue.',
    NIC,
    (w) => perNic(w, ['driver'], [E.GUEST_XMIT], sumOf),
    { counterpart: 'TX `bytes` of `ip -s link` in the guest; `tx_bytes_count` (Firecracker)' },
  ),
  counter(
    'received_frames_total',
    'Frames that a backend placed into receive queues.',
    NIC,
    (w) => perNic(w, ['queue'], [E.VIRTQ_USED], countOf, isRx),
    { counterpart: 'RX `packets` of `ip -s link` in the guest; `rx_packets_count` (Firecracker)' },
  ),
  counter(
    'received_bytes_total',
    'Bytes of the frames that a backend placed into receive queues.',
    NIC,
    (w) => perNic(w, ['queue'], [E.VIRTQ_USED], sumOf, isRx),
    { counterpart: 'RX `bytes` of `ip -s link` in the guest; `rx_bytes_count` (Firecracker)' },
  ),
  counter(
    'tap_queue_drops_total',
    'Frames dropped because the queue of a tap was full.',
    NIC,
    (w) => perNic(w, ['tap'], [E.TAP_DROP_QUEUE_FULL]),
    { counterpart: 'TX `dropped` of `ip -s link` for the tap' },
  ),
  counter(
    'datapath_lookups_total',
    'Flow lookups of a bridge by result: kernel flow table hit, exact match cache hit, dpcls hit, miss.',
    ['topology', 'bridge', 'result'],
    (w) =>
      w.places('bridge').flatMap((p) =>
        (
          [
            [E.DP_HIT, 'hit'],
            [E.DP_EMC_HIT, 'emc_hit'],
            [E.DP_MEGAFLOW_HIT, 'megaflow_hit'],
            [E.DP_MISS, 'miss'],
          ] as const
        ).map(([kind, result]) => counted([w.catalog.topology, w.bridge(p), result], [countOf(p.id, kind)])),
      ),
    {
      counterpart:
        '`lookups: hit, missed` of `ovs-dpctl show`; `emc hits`, `megaflow hits`, `miss with success upcall` of `ovs-appctl dpif-netdev/pmd-stats-show`',
    },
  ),
  counter(
    'datapath_masks_probed_total',
    'Masks that the kernel flow table probed, hits and misses together.',
    ['topology', 'bridge'],
    (w) => perBridge(w, (p) => [sumOf(p, E.DP_HIT), sumOf(p, E.DP_MISS)]),
    { counterpart: '`masks: hit` of `ovs-dpctl show`' },
  ),
  counter(
    'datapath_subtable_lookups_total',
    'Subtables that dpcls probed for the lookups that it answered.',
    ['topology', 'bridge'],
    (w) => perBridge(w, (p) => [sumOf(p, E.DP_MEGAFLOW_HIT)]),
    { counterpart: '`avg. subtable lookups per megaflow hit` of `pmd-stats-show`, times the hits' },
  ),
  counter(
    'datapath_upcalls_total',
    'Upcalls that ofproto translated.',
    ['topology', 'bridge'],
    (w) => perBridge(w, (p) => [countOf(p, E.DP_UPCALL)]),
    {
      counterpart:
        '`Upcalls` of `pmd-perf-show`; `xlate_actions` of `ovs-appctl coverage/show` counts them among others',
    },
  ),
  counter(
    'datapath_flows_installed_total',
    'Datapath flows installed.',
    ['topology', 'bridge'],
    (w) => perBridge(w, (p) => [countOf(p, E.DP_FLOW_PUT)]),
    { counterpart: '`dpif_flow_put` of `ovs-appctl coverage/show`' },
  ),
  counter('emc_insertions_total', 'Flows that entered the exact match cache.', ['topology', 'bridge'], (w) =>
    perBridge(w, (p) => [countOf(p, E.DP_EMC_INSERT)]),
  ),
  counter(
    'fdb_learned_total',
    'MAC addresses learned or moved.',
    ['topology', 'bridge'],
    (w) => perBridge(w, (p) => [countOf(p, E.DP_FDB_LEARN)]),
    { counterpart: '`mac_learning_learned` and `mac_learning_moved` of `ovs-appctl coverage/show`' },
  ),
  counter('dma_transfers_total', 'Frames that a physical NIC moved by DMA, both ways.', ['topology', 'place'], (w) =>
    w.places('nic').map((p) => counted([w.catalog.topology, p.name], [countOf(p.id, E.PACKET_DMA)])),
  ),
  latency(
    'frame_latency_seconds',
    `Virtual time from the birth of a frame to its delivery, by the place of delivery${SAMPLED}.`,
    AT_PLACE,
    (w) =>
      w.places('driver', 'wire').map((p) => {
        const kind = p.type === 'driver' ? E.GUEST_DELIVER : E.WIRE_DELIVER;
        return histogram([w.catalog.topology, p.name, w.guest(p), p.nic ?? '', w.backend(p)], p.id, [kind]);
      }),
    { counterpart: 'what a traffic generator measures, e.g. the latency histogram of MoonGen or TRex' },
  ),
];

/** One series for each hop: the many. */
export const HOP_FAMILIES: readonly Family[] = [
  counter(
    'frames_total',
    'Frames seen at each hop, by what was seen there.',
    HOP,
    (w) => perHop(w, countOf, () => true),
    {
      counterpart:
        '`packets` of `ip -s link`; `rx_packets`, `tx_packets` of `ovs-vsctl get Interface … statistics`; `RX packets`, `TX packets` of `ovs-appctl dpctl/show -s`',
    },
  ),
  counter('frame_bytes_total', 'Bytes of the frames seen at each hop.', HOP, (w) => perHop(w, sumOf, sumsBytes), {
    counterpart: '`bytes` of `ip -s link`; `rx_bytes`, `tx_bytes` of `ovs-vsctl get Interface … statistics`',
  }),
  latency(
    'hop_latency_seconds',
    `Virtual time since the previous hop of the frame (or its birth), by hop and by what was seen there${SAMPLED}.`,
    ['topology', 'place', 'stage', 'guest', 'nic', 'backend'],
    hopLatencies,
  ),
];
