/** *Device and queues*: one guest's NIC: who notifies whom and how often, where frames wait, what the vCPU leaves guest mode for. */
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { CAPTURE, DROPPED, events, GUEST, JOURNEYS, type Link, NIC, QUEUE, TOPOLOGY } from './links.ts';
import { toDashboard } from './page.ts';
import type { Chart, Panel, Table } from './panels.ts';
import {
  grown,
  perVirtualSecond,
  quantile,
  RANGE,
  ratio,
  type Series,
  series,
  shareOfAll,
  virtualSeconds,
  WINDOW,
} from './queries.ts';
import { selected } from './variables.ts';

const QUEUES = selected('topology', 'backend', 'guest', 'queue');
const NICS = selected('topology', 'backend', 'guest');
const BY_QUEUE = 'topology, backend, guest, nic, queue';
const BY_NIC = 'topology, backend, guest, nic';
const BY_GUEST = 'topology, backend, guest';
// The backend is not at the end: its colour is for comparing backends, here it would hide which line is which.
const PER_QUEUE = '{{topology}} {{backend}} {{guest}}/{{nic}}/{{queue}}';
const PER_NIC = '{{topology}} {{backend}} {{guest}}/{{nic}}';

/** Frames that the driver made available (tx) or that the device used (rx): one count for each queue. */
const FRAMES = series('frames_total', QUEUES, 'type="queue"');
const frames = (window: string): string => grown(FRAMES, BY_QUEUE, window);
const ofQueue = (metric: string): Series => series(metric, QUEUES);
const queueGrown = (metric: string, window: string): string => grown(ofQueue(metric), BY_QUEUE, window);
/** Which part of the notifications that could have been sent was left out. */
const suppressedShare = (metric: string, window = WINDOW): string => {
  const left = queueGrown(`${metric}_suppressed_total`, window);
  return ratio(left, `(${left} + ${queueGrown(`${metric}_total`, window)})`);
};
const hopLatency = (q: number, window: string): string =>
  quantile(q, 'hop_latency_seconds', NICS, 'topology, place, stage', window);

const NOTIFICATION_EVENTS: readonly Link[] = [
  QUEUE,
  NIC,
  events('Events of this queue', 'places={guest}/{nic}/{queue}'),
  JOURNEYS,
  CAPTURE,
];
const queueChart = (title: string, description: string, unit: string, expression: string, max?: number): Chart => ({
  kind: 'chart',
  title,
  description,
  unit,
  queries: [[expression, PER_QUEUE]],
  links: NOTIFICATION_EVENTS,
  ...(max === undefined ? {} : { max }),
});

const SUMMARY: Table = {
  kind: 'table',
  title: 'Queues, over the time range',
  description:
    'One row for each virtqueue that carried frames in the time range. Frames per kick and per interrupt say how well notifications are batched; the shares say how often the ring made them unnecessary.',
  links: [QUEUE, NIC, JOURNEYS],
  decimals: 2,
  columns: [
    ['Frames', frames(RANGE), 'short'],
    ['Kicks', queueGrown('kicks_total', RANGE), 'short'],
    ['Frames per kick', ratio(frames(RANGE), queueGrown('kicks_total', RANGE)), 'none'],
    ['Kicks suppressed', suppressedShare('kicks', RANGE), 'percentunit'],
    ['Interrupts', queueGrown('interrupts_total', RANGE), 'short'],
    ['Frames per interrupt', ratio(frames(RANGE), queueGrown('interrupts_total', RANGE)), 'none'],
    ['Interrupts suppressed', suppressedShare('interrupts', RANGE), 'percentunit'],
    ['Receive queue empty', queueGrown('receive_queue_empty_total', RANGE), 'short'],
  ],
  height: 9,
  sortBy: 'Frames',
};

const NOTIFICATIONS: readonly Chart[] = [
  queueChart(
    'Frames by queue',
    'Frames that the driver made available (tx) or the device used (rx), for each second of virtual time.',
    'pps',
    ratio(frames(WINDOW), virtualSeconds(WINDOW), 'topology'),
  ),
  queueChart(
    'Batch: frames per kick',
    'Frames that a queue carried for each kick. Nothing is shown where there was no kick: the more the ring suppresses, the larger the batch, and a polling device wants none.',
    'none',
    ratio(frames(WINDOW), queueGrown('kicks_total', WINDOW)),
  ),
  queueChart(
    'Batch: frames per used index',
    'Frames that the device gave back with one write of used.idx: how many the driver finds at once.',
    'none',
    ratio(frames(WINDOW), queueGrown('used_batches_total', WINDOW)),
  ),
  queueChart(
    'Batch: frames per NAPI poll',
    'Frames that a queue carried for each time that the guest driver polled it.',
    'none',
    ratio(frames(WINDOW), queueGrown('napi_polls_total', WINDOW)),
  ),
  queueChart(
    'Kicks per frame',
    'Available buffer notifications: writes to the notify register for each frame of the queue.',
    'none',
    ratio(queueGrown('kicks_total', WINDOW), frames(WINDOW)),
  ),
  queueChart(
    'Kicks suppressed',
    'Share of the possible kicks that the driver left out because VRING_USED_F_NO_NOTIFY or avail_event said so.',
    'percentunit',
    suppressedShare('kicks'),
    1,
  ),
  queueChart(
    'Interrupts per frame',
    'Used buffer notifications that the device signalled for each frame of the queue.',
    'none',
    ratio(queueGrown('interrupts_total', WINDOW), frames(WINDOW)),
  ),
  queueChart(
    'Interrupts suppressed',
    'Share of the possible interrupts that the device left out because VRING_AVAIL_F_NO_INTERRUPT or used_event said so.',
    'percentunit',
    suppressedShare('interrupts'),
    1,
  ),
];

const WAITING: readonly Panel[] = [
  {
    kind: 'heatmap',
    title: 'Latency of frames',
    description:
      'Virtual time from the birth of a frame to its delivery at the chosen guests: the colour is the share of the frames in the window that fell into a bucket.',
    unit: 's',
    query: shareOfAll(
      series('frame_latency_seconds_bucket', NICS),
      series('frame_latency_seconds_count', NICS),
      'le',
      WINDOW,
    ),
    links: [['Topologies', '/v1/topologies']],
  },
  {
    kind: 'chart',
    title: 'Latency by hop, 99th percentile',
    description:
      'Virtual time since the hop before, by place and stage: where frames wait. Interpolated within buckets that double, so right to a factor of two. The points are the slowest frames, and lead to their journeys.',
    unit: 's',
    exemplars: true,
    log: true,
    queries: [[hopLatency(0.99, WINDOW), '{{topology}} {{place}} {{stage}}']],
    links: [events('Events at this place', 'places={place}'), JOURNEYS, CAPTURE],
  },
  {
    kind: 'table',
    title: 'Latency by hop, over the time range',
    description:
      'Virtual time since the hop before, for each hop of the chosen guests. A hop that nothing passed in the time range shows no quantile.',
    links: [events('Events at this place', 'places={place}'), JOURNEYS],
    decimals: 2,
    height: 9,
    columns: [
      ['Frames', grown(series('hop_latency_seconds_count', NICS), 'topology, place, stage', RANGE), 'short'],
      ['p50', hopLatency(0.5, RANGE), 's'],
      ['p90', hopLatency(0.9, RANGE), 's'],
      ['p99', hopLatency(0.99, RANGE), 's'],
    ],
    sortBy: 'p99',
  },
  {
    kind: 'chart',
    title: 'Receive queue empty',
    description:
      'Times that a device found no receive buffer, for each second of virtual time: the guest does not take its frames away fast enough.',
    unit: 'ops',
    queries: [[perVirtualSecond(ofQueue('receive_queue_empty_total'), BY_QUEUE), PER_QUEUE]],
    links: [...NOTIFICATION_EVENTS, events('Empty receive queues', 'events=virtq.rx_empty')],
  },
  {
    kind: 'chart',
    title: 'Transmit queue stopped, chains refused',
    description:
      'Times that the driver stopped its transmit queue because it was full, and descriptor chains or indices that the device refused, for each second of virtual time.',
    unit: 'ops',
    queries: [
      [perVirtualSecond(ofQueue('transmit_queue_stops_total'), BY_QUEUE), `stopped ${PER_QUEUE}`],
      [perVirtualSecond(ofQueue('queue_errors_total'), BY_QUEUE), `refused ${PER_QUEUE}`],
    ],
    links: [...NOTIFICATION_EVENTS, events('Stops and errors', 'events=guest.txq_*,virtq.error,virtq.bad_chain')],
  },
  {
    kind: 'chart',
    title: 'Drops at taps',
    description:
      'Frames dropped because the queue of a tap was full (1000 frames by default), for each second of virtual time.',
    unit: 'pps',
    stacked: true,
    queries: [[perVirtualSecond(series('tap_queue_drops_total', NICS), BY_NIC), PER_NIC]],
    links: [NIC, events('Drops at taps', 'events=tap.queue_full'), DROPPED, JOURNEYS],
  },
];

const VCPU: readonly Chart[] = [
  {
    kind: 'chart',
    title: 'vCPU exits per frame, by reason and by who handled them',
    description: 'VM exits for each frame that the guest sent or received.',
    unit: 'none',
    queries: [
      [
        ratio(
          grown(series('vm_exits_total', NICS), `${BY_GUEST}, reason, handled_by`, WINDOW),
          `(${grown(series('received_frames_total', NICS), BY_GUEST, WINDOW)} + ` +
            `${grown(series('sent_frames_total', NICS), BY_GUEST, WINDOW)})`,
          BY_GUEST,
        ),
        '{{topology}} {{backend}} {{guest}} {{reason}} ({{handled_by}})',
      ],
    ],
    links: [GUEST, events('Exits of this guest', 'events=kvm.exit_*&places={guest}/*'), TOPOLOGY],
  },
  {
    kind: 'chart',
    title: 'Interrupts injected',
    description:
      'MSIs that reached the guest for each second of virtual time, by how: an irqfd in the kernel, or an ioctl of QEMU.',
    unit: 'ops',
    queries: [
      [
        perVirtualSecond(series('interrupts_injected_total', selected('topology', 'guest')), 'topology, guest, method'),
        '{{topology}} {{guest}} {{method}}',
      ],
    ],
    links: [GUEST, events('Injected interrupts', 'events=kvm.irqfd,kvm.signal_msi')],
  },
  {
    kind: 'chart',
    title: 'vCPU and backend, busy',
    description: 'Share of virtual time in which the guest’s vCPU, and the thread that serves its device, had work.',
    unit: 'percentunit',
    max: 1,
    queries: [
      [
        perVirtualSecond(series('context_busy_seconds_total', NICS), 'topology, guest, context, backend'),
        '{{topology}} {{backend}} {{context}}',
      ],
    ],
    links: [GUEST, events('Events of this context', 'contexts={context}')],
  },
  {
    kind: 'chart',
    title: 'Wake-ups per frame',
    description: 'Wake-ups of the halted vCPU and of the sleeping backend for each frame sent or received.',
    unit: 'none',
    queries: [
      [
        ratio(
          grown(series('context_wakeups_total', NICS), `${BY_GUEST}, type`, WINDOW),
          `(${grown(series('received_frames_total', NICS), BY_GUEST, WINDOW)} + ` +
            `${grown(series('sent_frames_total', NICS), BY_GUEST, WINDOW)})`,
          BY_GUEST,
        ),
        '{{topology}} {{backend}} {{guest}} {{type}}',
      ],
    ],
    links: [GUEST, events('Wake-ups', 'events=sched.wake,kvm.entry')],
  },
];

export const deviceAndQueues = (): Dashboard =>
  toDashboard({
    uid: 'ringside-device-and-queues',
    title: 'Device and queues',
    description: 'A guest’s virtio-net device: its queues, its notifications, its vCPU, and where its frames wait.',
    tags: ['virtio', 'vhost'],
    variables: ['topology', 'backend', 'guest', 'queue'],
    rows: [
      ['All at a glance', [SUMMARY]],
      ['Queues: batches, kicks, interrupts', NOTIFICATIONS],
      ['Where frames wait, and where they are lost', WAITING],
      ['vCPU', VCPU],
    ],
  });
