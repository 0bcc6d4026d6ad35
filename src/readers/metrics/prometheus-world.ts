/** Metrics of a world as a whole: its clock, its facts, what became of its frames, its runs, faults and rings. */
import { backendsOf, type Place } from '../../engine/catalog.ts';
import * as E from '../../engine/events.ts';
import { GAUGE_CONSERVATION, GAUGE_IN_FLIGHT, GAUGE_TRAFFIC, GAUGE_UNMEASURED } from '../../engine/latency.ts';
import { AT_PLACE, counted, counter, countOf, type Family, info, type Series, single } from './prometheus-family.ts';
import type { WorldNames } from './prometheus-labels.ts';

/** One series per world: the count of all events of these kinds, everywhere. */
function everywhere(w: WorldNames, kinds: readonly number[]): Series[] {
  return [
    counted(
      [w.catalog.topology],
      w.catalog.places.flatMap((p) => kinds.map((k) => countOf(p.id, k))),
    ),
  ];
}
const idsOf = (wanted: (k: E.EventKind) => boolean): number[] => E.EVENT_KINDS.filter(wanted).map((k) => k.id);
const perRole = (w: WorldNames, role: E.FrameRole): Series[] =>
  everywhere(
    w,
    idsOf((k) => k.role === role),
  );
const perKind = (w: WorldNames, kind: number): Series[] => everywhere(w, [kind]);

/** What went wrong: the emulator's own failures, and what a device refused. */
const FAULTS = E.EVENT_KINDS.filter(
  (k) => (k.name.startsWith('fault.') && k.id !== E.FAULT_END) || k.id === E.VIRTQ_ERROR,
);

export const WORLD_FAMILIES: readonly Family[] = [
  single(
    'virtual_time_seconds',
    'gauge',
    'Virtual time that the topology has run for; rates are increases divided by the increase of this.',
    ({ reader }) => reader.virtualTimeNs() / 1e9,
  ),
  single(
    'boot_virtual_time_seconds',
    'gauge',
    'Virtual time at which the topology had booted.',
    ({ booted }) => (booted?.virtualTimeNs ?? 0) / 1e9,
  ),
  info('topology', 'The seed of the topology and the revision of its document.', ['seed', 'revision'], (w) => [
    String(w.reader.catalog.seed),
    String(w.revision ?? 0),
  ]),
  info(
    'cost_profile',
    'What the virtual times are computed from: the cost profile, how many costs the document overrides, and a hash of all costs.',
    ['profile', 'hash', 'overrides'],
    ({ reader: { catalog } }) => {
      const { profile, hash, overrides } = catalog.costStamp;
      return [profile, hash, String(overrides)];
    },
  ),
  single(
    'reconfigurations_total',
    'counter',
    'Times that the document was replaced or the world rebuilt; all other counters of the topology start again at 0.',
    (w) => w.reconfigurations ?? 0,
  ),
  counter(
    'traffic_runs_started_total',
    'Traffic runs that began, replays and raw frames included.',
    ['topology'],
    (w) => everywhere(w, [E.TRAFFIC_START]),
  ),
  counter('traffic_runs_ended_total', 'Traffic runs that ended, whatever their outcome.', ['topology'], (w) =>
    everywhere(w, [E.TRAFFIC_END]),
  ),
  counter(
    'traffic_seconds_total',
    'Virtual time in which traffic runs of a backend were under way: from the first frame sent to the last one delivered.',
    ['topology', 'backend'],
    (w) =>
      backendsOf(w.catalog.places).map((backend, i) => ({
        labels: [w.catalog.topology, backend],
        from: 'gauges',
        elements: [GAUGE_TRAFFIC + i],
      })),
    { divisor: 1e9 },
  ),
  counter(
    'faults_total',
    'Faults by kind (the name of the event): failed assertions, and chains or indices that a device refused.',
    ['topology', 'kind'],
    (w) =>
      FAULTS.map((k) =>
        counted(
          [w.catalog.topology, k.name],
          w.catalog.places.map((p) => countOf(p.id, k.id)),
        ),
      ),
  ),
  counter('frames_injected_total', 'Frames that entered the world.', ['topology'], (w) => perRole(w, 'born')),
  counter('frames_replicated_total', 'Copies of frames made by flooding.', ['topology'], (w) =>
    perKind(w, E.PACKET_CLONE),
  ),
  counter('frames_duplicated_total', 'Frames sent again after a vhost-user back-end had died.', ['topology'], (w) =>
    perKind(w, E.PACKET_DUPLICATE),
  ),
  counter('frames_segments_total', 'Frames cut from longer ones (GSO, TSO, USO).', ['topology'], (w) =>
    perKind(w, E.PACKET_SEGMENT),
  ),
  counter('frames_segmented_total', 'Frames that were cut into segments, which live on.', ['topology'], (w) =>
    perKind(w, E.PACKET_SEGMENTED),
  ),
  counter('frames_merged_total', 'Frames whose bytes became part of another one (GRO).', ['topology'], (w) =>
    perKind(w, E.PACKET_MERGE),
  ),
  counter('frames_delivered_total', 'Frames that reached an end that wanted them, by place.', AT_PLACE, (w) => {
    const kinds = idsOf((k) => k.role === 'delivered');
    const ends = w.places('driver', 'nic', 'wire');
    const rest = w.catalog.places.filter((p) => !ends.includes(p));
    const at = (places: readonly Place[]) => places.flatMap((p) => kinds.map((k) => countOf(p.id, k)));
    return [
      ...ends.map((p) => counted([w.catalog.topology, p.name, w.guest(p), p.nic ?? '', w.backend(p)], at([p]))),
      // So that the sum is the whole, whatever place an end is recorded at.
      counted([w.catalog.topology, '', '', '', ''], at(rest)),
    ];
  }),
  counter('frames_consumed_total', 'Frames taken by a protocol of a guest: ARP, ICMP echo.', ['topology'], (w) =>
    perRole(w, 'consumed'),
  ),
  counter(
    'frames_dropped_total',
    'Frames dropped, by reason (the name of the event).',
    ['topology', 'reason'],
    (w) =>
      E.DROP_KINDS.map((k) =>
        counted(
          [w.catalog.topology, k.name],
          w.catalog.places.map((p) => countOf(p.id, k.id)),
        ),
      ),
    {
      counterpart:
        '`dropped` of `ip -s link`; `rx_missed_errors` (NIC ring full); `ovs_tx_failure_drops` (no receive buffer); `lost` of `ovs-dpctl show` (upcall queue full)',
    },
  ),
  single(
    'frames_in_flight',
    'gauge',
    'Frames in the rings, queues and buffers, counted there: at most 100 ms ago, and when the world went idle.',
    ({ reader }) => reader.gauges[GAUGE_IN_FLIGHT]!,
  ),
  single(
    'conservation_holds',
    'gauge',
    'Whether injected, replicated, duplicated and segment frames were the delivered, consumed, dropped, segmented, merged and in flight ones when that was counted last: 1, else 0.',
    ({ reader }) => reader.gauges[GAUGE_CONSERVATION]!,
  ),
  single('events_total', 'counter', 'Events recorded.', ({ reader }) => reader.head()),
  single('event_ring_events', 'gauge', 'Events that can still be read.', ({ reader }) => reader.head() - reader.tail()),
  single(
    'event_ring_capacity_events',
    'gauge',
    'Events that the ring has room for.',
    ({ reader }) => reader.layout.eventCapacity,
  ),
  single('event_ring_overwritten_events_total', 'counter', 'Events that can no longer be read.', ({ reader }) =>
    reader.tail(),
  ),
  single('byte_ring_bytes', 'gauge', 'Bytes of frames that are stored, overwritten ones left out.', ({ reader }) =>
    Math.min(reader.bytesHead(), reader.layout.byteCapacity),
  ),
  single('byte_ring_overwritten_bytes_total', 'counter', 'Bytes of frames that were overwritten.', ({ reader }) =>
    Math.max(0, reader.bytesHead() - reader.layout.byteCapacity),
  ),
  single(
    'latency_unmeasured_total',
    'counter',
    'Hops and deliveries that the latency histograms lack, because their frame was under way for so long that another one needed its place (at least 65,536 others were born).',
    ({ reader }) => reader.gauges[GAUGE_UNMEASURED]!,
  ),
];
