/** Metrics of vCPUs, notifications and execution contexts: what KVM, virtio and the scheduler count. */
import * as E from '../../engine/events.ts';
import { EXIT_KINDS } from '../../engine/exit-kinds.ts';
import { isRx } from '../place-kinds.ts';
import {
  boot,
  counted,
  counter,
  countOf,
  type Family,
  lastPart,
  NIC,
  perNic,
  perQueue,
  QUEUE,
  type Series,
  sumOf,
} from './prometheus-family.ts';
import type { WorldNames } from './prometheus-labels.ts';

/** A counter of each vCPU. */
const VCPU = ['topology', 'guest', 'backend', 'vcpu'] as const;
function perVcpu(w: WorldNames, elements: (place: number) => readonly number[]): Series[] {
  return w
    .places('vcpu')
    .map((p) => counted([w.catalog.topology, w.guest(p), w.backend(p), lastPart(p.name)], elements(p.id)));
}

const CONTEXT = ['topology', 'context', 'kind', 'core', 'host', 'guest', 'backend'] as const;
function perContext(w: WorldNames, from: 'busy' | 'idlePolls'): Series[] {
  return w.catalog.contexts.map((c) => ({
    labels: [w.catalog.topology, c.name, c.kind, String(c.core), c.host, w.guest(c), w.backend(c)],
    from,
    elements: [c.id],
  }));
}
/** One series per place that a context works at. */
function perWorkplace(w: WorldNames, kinds: readonly number[]): Series[] {
  return w.places('vcpu', 'vmm', 'backend', 'bridge', 'nic', 'wire', 'tap', 'port', 'world').map((p) =>
    counted(
      [w.catalog.topology, p.name, p.type, w.guest(p), p.nic ?? '', w.backend(p)],
      kinds.map((k) => countOf(p.id, k)),
    ),
  );
}
const WORKPLACE = ['topology', 'place', 'type', 'guest', 'nic', 'backend'] as const;

const COUNTERS: readonly Family[] = [
  counter(
    'vm_exits_total',
    'VM exits, by reason and by who handled them.',
    ['topology', 'guest', 'backend', 'vcpu', 'reason', 'handled_by'],
    (w) =>
      w
        .places('vcpu')
        .flatMap((p) =>
          EXIT_KINDS.map(({ kind, reason, handledBy }) =>
            counted(
              [w.catalog.topology, w.guest(p), w.backend(p), lastPart(p.name), reason, handledBy],
              [countOf(p.id, kind)],
            ),
          ),
        ),
    {
      counterpart:
        'kvm_stat and QEMU `query-stats` (provider kvm, target vcpu): `exits` (all), `mmio_exits` (EPT_MISCONFIG to userspace), `io_exits` (IO_INSTRUCTION), `halt_exits` (HLT), `irq_exits` (EXTERNAL_INTERRUPT); tracepoints kvm:kvm_exit, kvm:kvm_userspace_exit',
    },
  ),
  counter(
    'kvm_run_exits_total',
    'Returns of KVM_RUN to userspace, by what struct kvm_run says.',
    [...VCPU, 'exit_reason'],
    (w) =>
      w
        .places('vcpu')
        .flatMap((p) =>
          EXIT_KINDS.filter((e) => e.exit_reason !== null).map(({ kind, exit_reason }) =>
            counted(
              [w.catalog.topology, w.guest(p), w.backend(p), lastPart(p.name), exit_reason!],
              [countOf(p.id, kind)],
            ),
          ),
        ),
    { counterpart: 'tracepoint kvm:kvm_userspace_exit' },
  ),
  counter(
    'posted_interrupts_total',
    'Interrupts that reached a running vCPU without an exit.',
    VCPU,
    (w) => perVcpu(w, (place) => [countOf(place, E.KVM_POSTED_INTERRUPT)]),
    { counterpart: 'tracepoint kvm:kvm_apicv_accept_irq' },
  ),
  counter(
    'halt_attempted_poll_total',
    'Halts of a vCPU during which its thread polled for a wake-up.',
    VCPU,
    (w) => perVcpu(w, (place) => [countOf(place, E.KVM_HALT_POLL_SUCCESS), countOf(place, E.KVM_HALT_POLL_FAIL)]),
    { counterpart: '`halt_attempted_poll` of kvm_stat and `query-stats`' },
  ),
  counter(
    'halt_successful_poll_total',
    'Those that were woken while the thread still polled.',
    VCPU,
    (w) => perVcpu(w, (place) => [countOf(place, E.KVM_HALT_POLL_SUCCESS)]),
    { counterpart: '`halt_successful_poll` of kvm_stat and `query-stats`' },
  ),
  counter(
    'halt_poll_invalid_total',
    'Those of them that were woken for nothing; on x86 there are none.',
    VCPU,
    (w) => perVcpu(w, () => []),
    { counterpart: '`halt_poll_invalid` of kvm_stat and `query-stats`' },
  ),
  counter(
    'halt_poll_success_seconds_total',
    'Virtual time that threads of halted vCPUs polled until they were woken, in seconds.',
    VCPU,
    (w) => perVcpu(w, (place) => [sumOf(place, E.KVM_HALT_POLL_SUCCESS)]),
    { counterpart: '`halt_poll_success_ns` of kvm_stat and `query-stats`', divisor: 1e9 },
  ),
  counter(
    'halt_poll_fail_seconds_total',
    'Virtual time that they polled in vain, in seconds.',
    VCPU,
    (w) => perVcpu(w, (place) => [sumOf(place, E.KVM_HALT_POLL_FAIL)]),
    { counterpart: '`halt_poll_fail_ns` of kvm_stat and `query-stats`', divisor: 1e9 },
  ),
  counter(
    'interrupts_injected_total',
    'Interrupts injected into a guest, by how: an irqfd in the kernel, or an ioctl of userspace with a message or for the level of a line (both edges count).',
    ['topology', 'guest', 'method'],
    (w) =>
      (
        [
          [E.KVM_IRQFD, 'irqfd'],
          [E.KVM_SIGNAL_MSI, 'KVM_SIGNAL_MSI'],
          [E.KVM_IRQ_LINE, 'KVM_IRQ_LINE'],
        ] as const
      ).flatMap(([kind, method]) =>
        w.catalog.places
          .filter((p) => p.guest !== undefined)
          .map((p) => counted([w.catalog.topology, w.guest(p), method], [countOf(p.id, kind)])),
      ),
    { counterpart: '`irq_injections` of kvm_stat and `query-stats`; tracepoint kvm:kvm_msi_set_irq' },
  ),
  counter(
    'vcpu_wakeups_total',
    'Times that a halted vCPU ran again.',
    ['topology', 'guest', 'backend', 'vcpu'],
    (w) =>
      w
        .places('vcpu')
        .map((p) =>
          counted([w.catalog.topology, w.guest(p), w.backend(p), lastPart(p.name)], [countOf(p.id, E.KVM_ENTRY)]),
        ),
    { counterpart: '`halt_wakeup` of kvm_stat and `query-stats`' },
  ),
  counter(
    'kicks_total',
    'Available buffer notifications: writes to the notify register.',
    QUEUE,
    (w) => perQueue(w, E.VIRTQ_KICK),
    {
      counterpart:
        '`tx_queue_0_kicks`, `rx_queue_0_kicks` of the guest’s `ethtool -S` (virtio_net; `tx0_kicks`, `rx0_kicks` in newer kernels); Firecracker `tx_queue_event_count`, `rx_queue_event_count`',
    },
  ),
  counter('kicks_suppressed_total', 'Available buffer notifications that the ring said were not wanted.', QUEUE, (w) =>
    perQueue(w, E.VIRTQ_KICK_SUPPRESSED),
  ),
  counter(
    'interrupts_total',
    'Used buffer notifications signalled to the driver.',
    QUEUE,
    (w) => perQueue(w, E.VIRTQ_INTERRUPT),
    {
      counterpart:
        '`rx_q0_guest_notifications`, `tx_q0_guest_notifications` (DPDK vhost statistics, rx and tx seen from the switch)',
    },
  ),
  counter(
    'interrupts_suppressed_total',
    'Used buffer notifications that the ring said were not wanted.',
    QUEUE,
    (w) => perQueue(w, E.VIRTQ_INTERRUPT_SUPPRESSED),
    { counterpart: '`guest_notifications_suppressed` (DPDK vhost statistics)' },
  ),
  counter(
    'interrupts_handled_total',
    'Interrupt handlers that a guest ran, by queue.',
    QUEUE,
    (w) => perQueue(w, E.GUEST_IRQ),
    { counterpart: '`/proc/interrupts` of the guest, `virtio0-input.0` and `virtio0-output.0`' },
  ),
  counter(
    'napi_polls_total',
    'NAPI polls of a queue by a guest kernel.',
    QUEUE,
    (w) => perQueue(w, E.GUEST_NAPI_POLL),
    {
      counterpart: 'tracepoint napi:napi_poll',
    },
  ),
  // Of transmit queues every frame is recorded when it enters the ring, not each time that the index is published.
  counter(
    'avail_batches_total',
    'Times that a driver published avail.idx of a receive queue: once for all the buffers that it posted together.',
    QUEUE,
    (w) => perQueue(w, E.VIRTQ_AVAIL_IDX, countOf, isRx),
  ),
  counter(
    'receive_buffers_posted_total',
    'Receive buffers that a driver posted; divided by ringside_avail_batches_total this is the batch size.',
    QUEUE,
    (w) => perQueue(w, E.VIRTQ_AVAIL_IDX, sumOf, isRx),
  ),
  counter(
    'used_batches_total',
    'Times that the device published used.idx; frames divided by these is the batch size.',
    QUEUE,
    (w) => perQueue(w, E.VIRTQ_USED_IDX),
  ),
  counter(
    'receive_queue_empty_total',
    'Times that a device found no receive buffer.',
    QUEUE,
    (w) => perQueue(w, E.VIRTQ_RX_EMPTY),
    { counterpart: '`no_rx_avail_buffer` (Firecracker)' },
  ),
  counter(
    'transmit_queue_stops_total',
    'Times that a driver stopped its transmit queue for want of descriptors.',
    QUEUE,
    (w) => perQueue(w, E.GUEST_TXQ_STOP),
    { counterpart: '`requeues` of the guest’s `tc -s qdisc` (a frame that met the stopped queue)' },
  ),
  counter(
    'queue_errors_total',
    'Chains and indices of a driver that the device refused.',
    QUEUE,
    (w) => perQueue(w, E.VIRTQ_ERROR),
    { counterpart: '`tx_malformed_frames` (Firecracker; frames without a whole header)' },
  ),
  counter('copies_total', 'Frame copies made by a backend.', NIC, (w) => perNic(w, ['backend'], [E.PACKET_COPY])),
  counter('copied_bytes_total', 'Frame bytes copied by a backend.', NIC, (w) =>
    perNic(w, ['backend'], [E.PACKET_COPY], sumOf),
  ),
  counter(
    'syscalls_total',
    'System calls on the data path of a backend.',
    NIC,
    (w) => perNic(w, ['backend'], [E.SCHED_SYSCALL]),
    { counterpart: 'tracepoint raw_syscalls:sys_enter; `strace -c`' },
  ),
  counter(
    'vhost_messages_total',
    'Set-up messages of a vhost backend: ioctls on /dev/vhost-net, or vhost-user requests.',
    NIC,
    (w) => perNic(w, ['backend'], [E.VHOST_IOCTL, E.VHOST_USER_REQUEST]),
    { counterpart: 'the VHOST_CONFIG lines of a DPDK log' },
  ),
  counter(
    'context_busy_seconds_total',
    'Virtual time that an execution context worked, in seconds.',
    CONTEXT,
    (w) => perContext(w, 'busy'),
    {
      counterpart:
        'utime and stime of the thread (`/proc/<pid>/stat`); `processing cycles` of `ovs-appctl dpif-netdev/pmd-stats-show`',
      divisor: 1e9,
    },
  ),
  counter(
    'context_idle_polls_total',
    'Polls of a polling context that found nothing.',
    CONTEXT,
    (w) => perContext(w, 'idlePolls'),
    { counterpart: '`idle iterations` of `ovs-appctl dpif-netdev/pmd-perf-show`' },
  ),
  counter(
    'context_wakeups_total',
    'Wake-ups of sleeping contexts and of halted vCPUs, by the place that they serve.',
    WORKPLACE,
    (w) => perWorkplace(w, [E.SCHED_WAKE, E.KVM_ENTRY]),
    { counterpart: 'tracepoint sched:sched_wakeup' },
  ),
  counter(
    'context_switches_total',
    'Times that a core switched to a context, by the place that it serves.',
    WORKPLACE,
    (w) => perWorkplace(w, [E.SCHED_SWITCH]),
    { counterpart: 'tracepoint sched:sched_switch; `voluntary_ctxt_switches` and `nonvoluntary_ctxt_switches`' },
  ),
];

/**
 * Counters that booting moves (the probe, the commands of the control queue) and that comparisons look at: a panel that sees
 * a world later only takes the growth from there.
 */
export const MOVED_BY_BOOTING = [
  'vm_exits',
  'kicks',
  'kicks_suppressed',
  'interrupts',
  'used_batches',
  'syscalls',
  'context_busy_seconds',
] as const;
export const KVM_FAMILIES: readonly Family[] = [
  ...COUNTERS,
  ...COUNTERS.flatMap((family) =>
    MOVED_BY_BOOTING.filter((name) => family.name === `ringside_${name}_total`).map((name) => boot(name, family)),
  ),
];
