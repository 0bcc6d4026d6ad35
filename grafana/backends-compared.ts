/** *Backends compared*: what one frame, and what one gigabit, costs on each backend, and what a virtual second carries. */
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { CAPTURE, DROPPED, events, JOURNEYS, RUNS, TOPOLOGY } from './links.ts';
import { toDashboard } from './page.ts';
import type { Chart, Table } from './panels.ts';
import { grown, growth, perVirtualSecond, quantile, RANGE, ratio, receivedBits, series, WINDOW } from './queries.ts';
import { selected } from './variables.ts';

const SELECTION = selected('topology', 'backend');
const BY = 'topology, backend';
/** Contexts that serve no single backend (softirq, NIC, PMD) have no such label and are wanted too. */
const CONTEXTS = 'topology=~"$topology",backend=~"$backend|"';
const PER_BACKEND = '{{topology}} {{backend}}';
/** The exits that device access causes; HLT and the rest are counted by reason beside them. */
const DEVICE_EXITS = 'reason=~"EPT_MISCONFIG|IO_INSTRUCTION"';

const received = (window: string): string => grown(series('received_frames_total', SELECTION), BY, window);
const counter = (metric: string, extra = ''): ReturnType<typeof series> => series(metric, SELECTION, extra);

/** Growth for each frame received by the same backend. */
const perFrame = (metric: string, extra = '', window = WINDOW): string =>
  ratio(grown(counter(metric, extra), BY, window), received(window));
/** The same with more labels to tell apart, e.g. the reason of an exit. */
const perFrameBy = (metric: string, labels: string): string =>
  ratio(grown(counter(metric), `${BY}, ${labels}`, WINDOW), received(WINDOW), BY);
/** Growth for each 10^9 bits received by the same backend. */
const perGigabit = (metric: string, extra = '', window = WINDOW): string =>
  ratio(`1e9 * ${grown(counter(metric, extra), BY, window)}`, receivedBits(SELECTION, BY, window));

/** Busy time of what carries frames for a backend. A PMD has no backend of its own: vhost-user's NICs are what it polls. */
const busy = (window: string): string => {
  const contexts = series('context_busy_seconds_total', CONTEXTS, 'kind=~"vcpu|qemu|vhost|pmd"');
  return `sum by (${BY}) (label_replace(${growth(contexts, window)}, "backend", "vhost-user", "kind", "pmd"))`;
};
/** Virtual seconds in which traffic of a backend was under way: those that the others had are not its own. */
const trafficSeconds = (window: string): string => grown(series('traffic_seconds_total', SELECTION), BY, window);
const framesPerSecond = (window: string): string => ratio(received(window), trafficSeconds(window));
const bitsPerSecond = (window: string): string => ratio(receivedBits(SELECTION, BY, window), trafficSeconds(window));
const latency = (q: number, window = WINDOW): string => quantile(q, 'frame_latency_seconds', SELECTION, BY, window);

const KICKS_AND_INTERRUPTS = events('Kicks and interrupts', 'events=virtq.kick*,virtq.interrupt*');
const EXITS = events('Exits', 'events=kvm.exit_*');
const COPIES = events('Copies', 'events=packet.copy');

const chart = (
  title: string,
  description: string,
  unit: string,
  expression: string,
  more: Partial<Chart> & { legend?: string } = {},
): Chart => ({
  kind: 'chart',
  title,
  description,
  unit,
  queries: [[expression, more.legend ?? PER_BACKEND]],
  links: [JOURNEYS, RUNS, CAPTURE, ...(more.links ?? [])],
  ...(more.stacked === undefined ? {} : { stacked: more.stacked }),
  ...(more.max === undefined ? {} : { max: more.max }),
});

const SUMMARY: Table = {
  kind: 'table',
  title: 'Throughput and latency, over the time range',
  description:
    'One row for each backend: what a second of virtual time carried while traffic of that backend was under way, and how long a frame was from its birth to its delivery.',
  links: [TOPOLOGY, RUNS, JOURNEYS],
  decimals: 2,
  columns: [
    ['Frames', received(RANGE), 'short'],
    ['Frames per virtual second', framesPerSecond(RANGE), 'pps'],
    ['Bits per virtual second', bitsPerSecond(RANGE), 'bps'],
    ['Latency p50', latency(0.5, RANGE), 's'],
    ['Latency p90', latency(0.9, RANGE), 's'],
    ['Latency p99', latency(0.99, RANGE), 's'],
    ['CPU time per frame', ratio(busy(RANGE), received(RANGE)), 's'],
  ],
};

/** What the two tables of costs have as columns: name, metric, further labels, unit. */
const COSTS = [
  ['Exits, kernel', 'vm_exits_total', `handled_by="kernel",${DEVICE_EXITS}`, 'none'],
  ['Exits, userspace', 'vm_exits_total', `handled_by="userspace",${DEVICE_EXITS}`, 'none'],
  ['Kicks', 'kicks_total', '', 'none'],
  ['Kicks suppressed', 'kicks_suppressed_total', '', 'none'],
  ['Interrupts', 'interrupts_total', '', 'none'],
  ['Interrupts suppressed', 'interrupts_suppressed_total', '', 'none'],
  ['Copies', 'copies_total', '', 'none'],
  ['Copied bytes', 'copied_bytes_total', '', 'decbytes'],
  ['System calls', 'syscalls_total', '', 'none'],
  ['Wake-ups', 'context_wakeups_total', '', 'none'],
] as const;
const PER_FRAME: Table = {
  kind: 'table',
  title: 'Per frame received, over the time range',
  description:
    'One row for each backend: what a received frame cost on average over the time range of the dashboard. Exits are those that device access causes.',
  links: [TOPOLOGY, RUNS, JOURNEYS],
  columns: COSTS.map(([name, metric, extra, unit]) => [name, perFrame(metric, extra, RANGE), unit] as const),
};
const PER_GIGABIT: Table = {
  kind: 'table',
  title: 'Per gigabit received, over the time range',
  description:
    'One row for each backend: what 10⁹ received bits (frames with FCS) cost on average over the time range. With large frames a gigabit needs fewer of them: this is what a link of a given speed costs.',
  links: [TOPOLOGY, RUNS, JOURNEYS],
  decimals: 0,
  columns: [
    ...COSTS.map(([name, metric, extra, unit]) => [name, perGigabit(metric, extra, RANGE), unit] as const),
    ['CPU time', ratio(`1e9 * ${busy(RANGE)}`, receivedBits(SELECTION, BY, RANGE)), 's'],
  ],
};

const THROUGHPUT: readonly Chart[] = [
  chart(
    'Throughput, frames',
    'Frames placed in receive rings for each second of virtual time in which traffic of that backend was under way: what the emulated host would carry.',
    'pps',
    framesPerSecond(WINDOW),
  ),
  chart(
    'Throughput, bits',
    'Bits of the frames placed in receive rings, with FCS, for each second of virtual time in which traffic of that backend was under way.',
    'bps',
    bitsPerSecond(WINDOW),
  ),
  {
    kind: 'chart',
    title: 'Latency of a frame',
    description:
      'Virtual time from the birth of a frame to its delivery: median, 90th and 99th percentile. Interpolated within buckets that double, so right to a factor of two. The points are the slowest frames, and lead to their journeys.',
    unit: 's',
    exemplars: true,
    log: true,
    queries: ([0.5, 0.9, 0.99] as const).map((q) => [latency(q), `p${100 * q} ${PER_BACKEND}`] as const),
    links: [JOURNEYS, RUNS, CAPTURE],
    width: 24,
  },
];

const NOTIFICATIONS: readonly Chart[] = [
  chart(
    'Exits per frame, answered in the kernel',
    'VM exits that device access causes and that an ioeventfd answers in the kernel, for each frame received. The vCPU goes on at once; QEMU never sees them.',
    'none',
    perFrame('vm_exits_total', `handled_by="kernel",${DEVICE_EXITS}`),
    { links: [EXITS] },
  ),
  chart(
    'Exits per frame, answered in userspace',
    'VM exits that device access causes and that QEMU has to answer, for each frame received. Without ioeventfd every kick is one.',
    'none',
    perFrame('vm_exits_total', `handled_by="userspace",${DEVICE_EXITS}`),
    { links: [EXITS] },
  ),
  chart(
    'All exits per frame, by reason and by who handled them',
    'Every VM exit for each frame received, HLT and external interrupts included.',
    'none',
    perFrameBy('vm_exits_total', 'reason, handled_by'),
    { legend: '{{topology}} {{backend}} {{reason}} ({{handled_by}})', links: [EXITS] },
  ),
  chart(
    'Device exits per gigabit',
    'VM exits that device access causes, whoever answers them, for each 10⁹ bits received.',
    'none',
    perGigabit('vm_exits_total', DEVICE_EXITS),
    { links: [EXITS] },
  ),
  chart(
    'Kicks per frame',
    'Available buffer notifications that the driver sent, all queues of the NIC, for each frame received.',
    'none',
    perFrame('kicks_total'),
    { links: [KICKS_AND_INTERRUPTS] },
  ),
  chart(
    'Suppressed kicks per frame',
    'Available buffer notifications that the driver left out because the ring said so: VRING_USED_F_NO_NOTIFY, or avail_event not passed.',
    'none',
    perFrame('kicks_suppressed_total'),
    { links: [KICKS_AND_INTERRUPTS] },
  ),
  chart(
    'Interrupts per frame',
    'Used buffer notifications that the device signalled, all queues of the NIC, for each frame received.',
    'none',
    perFrame('interrupts_total'),
    { links: [KICKS_AND_INTERRUPTS] },
  ),
  chart(
    'Suppressed interrupts per frame',
    'Used buffer notifications that the device left out because the ring said so: VRING_AVAIL_F_NO_INTERRUPT, or used_event not passed.',
    'none',
    perFrame('interrupts_suppressed_total'),
    { links: [KICKS_AND_INTERRUPTS] },
  ),
];

const WORK: readonly Chart[] = [
  chart(
    'Copies per frame',
    'Copies of a frame made by host CPUs between two guests, for each frame received. The guests’ own copies and a NIC’s DMA are not among them.',
    'none',
    perFrame('copies_total'),
    { links: [COPIES] },
  ),
  chart(
    'Copied bytes per gigabit',
    'Bytes that host CPUs copied for each 10⁹ bits received: one copy of everything is 125 MB, less what is not copied (FCS) and more what is (virtio-net headers).',
    'decbytes',
    perGigabit('copied_bytes_total'),
    { links: [COPIES] },
  ),
  chart(
    'CPU time per frame',
    'Busy virtual time of vCPUs, QEMU main loops, vhost workers and PMDs for each frame received. A PMD counts for vhost-user; idle polls are not among it.',
    's',
    ratio(busy(WINDOW), received(WINDOW)),
  ),
  chart(
    'System calls per frame',
    'System calls of the backend on the data path, for each frame received.',
    'none',
    perFrame('syscalls_total'),
    { links: [events('System calls', 'events=sched.syscall')] },
  ),
  chart(
    'CPU per context',
    'Share of virtual time in which a context (vCPU, QEMU main loop, vhost worker, PMD, softirq) had work. A PMD’s idle polls are not work: its core is taken all the time all the same.',
    'percentunit',
    perVirtualSecond(series('context_busy_seconds_total', CONTEXTS), 'topology, context, kind'),
    {
      max: 1,
      legend: '{{topology}} {{context}}',
      links: [events('Events of this context', 'contexts={context}')],
    },
  ),
  chart(
    'Drops by reason',
    'Frames dropped for each second of virtual time, by the reason that was recorded.',
    'pps',
    perVirtualSecond(series('frames_dropped_total', 'topology=~"$topology"'), 'topology, reason'),
    { stacked: true, legend: '{{topology}} {{reason}}', links: [events('These drops', 'events={reason}'), DROPPED] },
  ),
];

export const backendsCompared = (): Dashboard =>
  toDashboard({
    uid: 'ringside-backends-compared',
    title: 'Backends compared',
    description: 'virtio-net in QEMU, vhost-net and vhost-user side by side. All rates are in virtual time.',
    tags: ['virtio', 'vhost'],
    variables: ['topology', 'backend'],
    rows: [
      ['All at a glance', [SUMMARY, PER_FRAME, PER_GIGABIT]],
      ['Throughput and latency in virtual time', THROUGHPUT],
      ['Notifications: exits, kicks, interrupts', NOTIFICATIONS],
      ['Work: copies, CPU, drops', WORK],
    ],
  });
