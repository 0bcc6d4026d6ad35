/**
 * The flows of the articles that Ringside makes visible, as orders of events: Red Hat's "Deep dive into virtio-networking
 * and vhost-net" (dd) and "A journey to the vhost-users realm" (vu). Where an article simplifies, the real code decides.
 * StratoVirt's are in flows-sv.ts, VU-1 and VU-3 in files of their own, and what QEMU does to a NIC while its guest runs in flows-qm.ts.
 */
import {
  IFF_TAP,
  TUNGETFEATURES,
  TUNGETVNETHDRSZ,
  TUNSETIFF,
  TUNSETOFFLOAD,
  TUNSETSNDBUF,
  TUNSETVNETHDRSZ,
} from '../../src/machine/host/tun-ioctls.ts';
import * as V from '../../src/machine/vhost/kernel/vhost-net.ts';
import {
  KVM_CHECK_EXTENSION,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_GET_API_VERSION,
  KVM_GET_VCPU_MMAP_SIZE,
  KVM_IOEVENTFD,
  KVM_IRQFD,
  KVM_SET_GSI_ROUTING,
  KVM_SET_IDENTITY_MAP_ADDR,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  KVM_SET_TSS_ADDR,
  KVM_SET_USER_MEMORY_REGION,
} from '../../src/machine/wire/kvm.ts';
import type { Flow, FlowEvent, Step } from './flow.ts';
import { QM_COUNTED_FROM, QM_FLOWS } from './flows-qm.ts';
import { SV_COUNTED_FROM, SV_FLOWS } from './flows-sv.ts';
import { vu1 } from './flows-vu.ts';
import { VU3_COUNTED_FROM, VU3_FLOWS } from './flows-vu3.ts';
import { since, windowOf } from './scopes.ts';

// ---- documents --------------------------------------------------------------------------------------------------
function twoGuests(backend: string, nic: object = {}, host: object = {}): object {
  const guest = (name: string, address: string): object => ({
    name,
    nics: [{ name: 'net0', bridge: 'br0', backend, addresses: [address], ...nic }],
  });
  const datapath = backend === 'vhost-user' ? 'netdev' : 'system';
  return {
    hosts: [
      {
        name: 'h1',
        bridges: [{ name: 'br0', datapath }],
        guests: [guest('a', '10.0.0.1/24'), guest('b', '10.0.0.2/24')],
        ...host,
      },
    ],
  };
}
const PING = { traffic: { kind: 'ping', from: 'a/net0', to: 'b/net0', count: 3 } } as const;
/** After ARP (frames 1 to 3, with the copy for the host) and the first echo (4 and 5): everything is learned, nothing else goes on. */
const SECOND_REQUEST = 6;
/** Frames of three echoes. */
const PING_FRAMES = 6;
const FIRST_REQUEST = 4;

// ---- scopes -----------------------------------------------------------------------------------------------------
/**
 * Without what QEMU asks KVM for, the bytes and results of its ioctls, and KVM_RUN after each exit: of these only the first is told.
 */
function outline(events: readonly FlowEvent[]): FlowEvent[] {
  const runs = new Set<string>();
  return events.filter((e) => {
    if (/^(kvm|vhost|tap)\.(ioctl_argument|ioctl_result|userspace_exit)$/.test(e.event)) return false;
    if (e.event === 'kvm.ioctl') return !SMALL_PRINT.includes(Number(e['ioctl']));
    if (e.event !== 'kvm.run') return true;
    const first = !runs.has(e.context);
    runs.add(e.context);
    return first;
  });
}
const SMALL_PRINT: readonly number[] = [KVM_CHECK_EXTENSION, KVM_GET_VCPU_MMAP_SIZE, KVM_SET_REGS, KVM_SET_SREGS];
/** The set-up of guest a's NIC, until `last` has happened, without its register accesses. */
function setUp(contexts: readonly string[], last: (e: FlowEvent) => boolean) {
  return (events: readonly FlowEvent[]): FlowEvent[] => {
    const own = events.filter(
      (e) => contexts.includes(e.context) && !/^kvm\.(exit_.*_user|exit_hlt|entry)$/.test(e.event),
    );
    return outline(own.slice(0, own.findIndex(last) + 1));
  };
}

// ---- steps ------------------------------------------------------------------------------------------------------
function step(
  context: string,
  place: string,
  event: string,
  more: Omit<Step, 'context' | 'place' | 'event'> = {},
): Step {
  return { context, place, event, ...more };
}

const driverSends: readonly Step[] = [
  step('a/vcpu0', 'a/net0', 'packet.born'),
  step('a/vcpu0', 'a/net0', 'guest.xmit', { text: '1: header and frame lie in guest memory' }),
  step('a/vcpu0', 'a/net0/tx0', 'virtq.avail', {
    text: '1: descriptors that lead to them; their head in the available ring',
  }),
];

function bridged(context: string, out: readonly Step[]): Step[] {
  return [
    step(context, 'br0/a.net0/tap', 'tap.xmit', {
      text: 'the frame enters the host stack, on the time of who sent it',
    }),
    step(context, 'br0/a.net0', 'dp.ingress'),
    step(context, 'br0', 'dp.hit', { takes: ['ovs_kernel_per_packet'], text: 'the kernel datapath knows the flow' }),
    ...out,
  ];
}
const toTapOfB = (context: string): Step[] => [
  step(context, 'br0/b.net0', 'dp.output'),
  step(context, 'br0/b.net0/tap', 'tap.enqueue', { name: 'queued' }),
];
/** Guest a takes its transmit buffer back, after an interrupt that found its vCPU halted. */
const HALTED = ['msi_injection', '-vm_exit_in_kernel_device', 'halted_vcpu_wakeup'] as const;
const interrupted = (after: string, text: string): Step[] => [
  step('a/vcpu0', 'a/vcpu0', 'kvm.entry', { after, takes: HALTED, text }),
  step('a/vcpu0', 'a/net0/tx0', 'guest.irq'),
  step('a/vcpu0', 'a/net0/tx0', 'virtq.interrupts_off'),
  step('a/vcpu0', 'a/net0/tx0', 'guest.napi_poll'),
];
const reclaimed: readonly Step[] = [
  step('a/vcpu0', 'a/net0/tx0', 'virtq.reclaim', { takes: ['guest_napi_poll', 'guest_tx_clean'] }),
  step('a/vcpu0', 'a/net0/tx0', 'virtq.interrupts_on'),
  step('a/vcpu0', 'a/vcpu0', 'kvm.exit_hlt', { takes: ['notification_enable'] }),
];
const received = (after: string, guest = 'b', end = 'guest.consume'): Step[] => [
  step(`${guest}/vcpu0`, `${guest}/vcpu0`, 'kvm.entry', { after, takes: HALTED }),
  step(`${guest}/vcpu0`, `${guest}/net0/rx0`, 'guest.irq'),
  step(`${guest}/vcpu0`, `${guest}/net0/rx0`, 'virtq.interrupts_off'),
  step(`${guest}/vcpu0`, `${guest}/net0/rx0`, 'guest.napi_poll'),
  step(`${guest}/vcpu0`, `${guest}/net0`, 'guest.rx', { takes: ['guest_napi_poll', 'guest_rx_per_packet'] }),
  step(`${guest}/vcpu0`, `${guest}/net0`, end),
  step(`${guest}/vcpu0`, `${guest}/net0/rx0`, 'virtq.interrupts_on'),
];
/** The vhost worker of a takes a frame from the ring to the tap; `out` is where it goes then. */
const vhostSends = (out: readonly Step[]): Step[] => [
  step('a/vcpu0', 'a/net0/tx0', 'virtq.kick', { text: 'the driver writes the notify register' }),
  step('a/vcpu0', 'a/vcpu0', 'kvm.exit_ept_misconfig_kernel', { text: 'KVM finds an ioeventfd at that address' }),
  step('a/vcpu0', 'a/net0/tx0', 'eventfd.signal', { name: 'kicked', text: '… and signals it. QEMU does not notice' }),
  step('a/vcpu0', 'a/vcpu0', 'kvm.exit_hlt', {
    after: 'kicked',
    takes: ['vm_exit_in_kernel_device'],
    text: 'the guest went on at once, and has nothing more to do',
  }),
  step('vhost-1201', 'a/net0/vhost-net', 'sched.wake', {
    after: 'kicked',
    takes: ['ioeventfd_signal', 'idle_backend_wakeup'],
  }),
  step('vhost-1201', 'a/net0/vhost-net', 'eventfd.read', { takes: ['vhost_worker_iteration'] }),
  step('vhost-1201', 'a/net0/tx0', 'virtq.kicks_off'),
  step('vhost-1201', 'a/net0/tx0', 'virtq.pop', { takes: ['vhost_burst_fixed'] }),
  step('vhost-1201', 'a/net0/vhost-net', 'packet.copy', {
    takes: ['vhost_net_tx_per_packet', '72 * copy_per_byte_kernel'],
    text: 'guest memory to skb, in the kernel: no system call',
  }),
  ...bridged('vhost-1201', out),
  step('vhost-1201', 'a/net0/tx0', 'virtq.tx_used'),
  step('vhost-1201', 'a/net0/tx0', 'virtq.used_idx'),
  step('vhost-1201', 'a/net0/tx0', 'virtq.interrupt'),
  step('vhost-1201', 'a/vcpu0', 'eventfd.signal', { text: 'the call eventfd' }),
  step('vhost-1201', 'a/vcpu0', 'kvm.irqfd', {
    name: 'returned',
    text: '… is an irqfd: KVM injects the interrupt, QEMU does not notice',
  }),
  step('vhost-1201', 'a/net0/tx0', 'virtq.kicks_on'),
];
const vhostRested = step('vhost-1201', 'a/net0/vhost-net', 'sched.sleep', {
  takes: ['notification_enable'],
  text: 'nothing came in between',
});
const vhostDelivers = (guest: string, worker: string): Step[] => [
  step(worker, `${guest}/net0/vhost-net`, 'packet.copy', {
    takes: ['vhost_net_rx_per_packet', '72 * copy_per_byte_kernel'],
    text: 'skb to a buffer that the driver had posted',
  }),
  step(worker, `${guest}/net0/rx0`, 'virtq.used'),
  step(worker, `${guest}/net0/rx0`, 'virtq.used_idx'),
  step(worker, `${guest}/net0/rx0`, 'virtq.interrupt'),
  step(worker, `${guest}/vcpu0`, 'eventfd.signal'),
  step(worker, `${guest}/vcpu0`, 'kvm.irqfd', { name: 'delivered' }),
  step(worker, `${guest}/net0/vhost-net`, 'sched.sleep'),
];

const ioctl = (place: string, event: string, number: number, argument?: number, text?: string): Step =>
  step('a/vcpu0', place, event, {
    is: { ioctl: number, ...(argument === undefined ? {} : { argument }) },
    ...(text === undefined ? {} : { text }),
  });
const kvm = (number: number, text?: string): Step => ioctl('a/vcpu0', 'kvm.ioctl', number, undefined, text);
const status = (value: number, text: string): Step =>
  step('a/vcpu0', 'a/net0', 'virtio.status', { is: { acceptedStatus: value }, text });
const features = (word: number, text: string): Step =>
  step('a/vcpu0', 'a/net0', 'virtio.features', { is: { word }, text });

const phase = (number: number, text: string): Step =>
  step('a/vcpu0', 'a/vcpu0', 'qemu.phase', { is: { phase: number }, text });
const hypervisor: readonly Step[] = [
  phase(1, 'QEMU has read its command line'),
  step('a/vcpu0', 'a/vcpu0', 'kvm.open', { text: 'the accelerator: /dev/kvm' }),
  kvm(KVM_GET_API_VERSION),
  kvm(KVM_CREATE_VM, 'a descriptor for the machine'),
  kvm(KVM_SET_IDENTITY_MAP_ADDR),
  kvm(KVM_SET_TSS_ADDR),
  kvm(KVM_CREATE_IRQCHIP, 'local APICs, I/O APIC and PICs are the kernel’s'),
  phase(2, 'the accelerator is there; netdevs come next'),
];
const board: readonly Step[] = [
  phase(3, 'back-ends are there; now the board'),
  kvm(KVM_CREATE_VCPU),
  kvm(KVM_SET_USER_MEMORY_REGION, 'guest RAM below the legacy video memory'),
  kvm(KVM_SET_USER_MEMORY_REGION, 'and above it'),
  kvm(KVM_SET_GSI_ROUTING, 'pins of the interrupt controllers'),
  phase(4, 'the machine is there; devices come next'),
];
const ready = (backend: string): Step[] => [
  step('a/vcpu0', `a/net0/${backend}`, 'qemu.device_realize', { text: 'the device, with what its back-end offers' }),
  phase(5, 'all is there'),
  step('a/vcpu0', `a/net0/${backend}`, 'qemu.device_reset'),
  step('a/vcpu0', 'a/vcpu0', 'kvm.run', { text: 'KVM_RUN: from here on the guest runs' }),
];
function tapOpened(backend: string): Step[] {
  const tap = (number: number, argument?: number): Step => ioctl(`a/net0/${backend}`, 'tap.ioctl', number, argument);
  return [
    tap(TUNGETFEATURES),
    tap(TUNSETVNETHDRSZ, 10),
    step('a/vcpu0', `a/net0/${backend}`, 'tap.ioctl', {
      is: { ioctl: TUNSETIFF },
      text: `IFF_TAP (${IFF_TAP}), IFF_NO_PI, IFF_ONE_QUEUE, IFF_VNET_HDR`,
    }),
    tap(TUNSETOFFLOAD),
    tap(TUNSETOFFLOAD, 0),
    tap(TUNGETVNETHDRSZ),
    tap(TUNSETVNETHDRSZ, 10),
    tap(TUNSETVNETHDRSZ, 10),
    tap(TUNSETVNETHDRSZ, 10),
    tap(TUNSETSNDBUF),
  ];
}
const tapLearnsFeatures = (backend: string): Step[] => [
  ioctl(`a/net0/${backend}`, 'tap.ioctl', TUNSETVNETHDRSZ, 12, 'VERSION_1: the header has num_buffers'),
  ioctl(`a/net0/${backend}`, 'tap.ioctl', TUNSETOFFLOAD, 0x1f, 'what the guest takes: checksums, TSO, ECN, UFO'),
];
const capability = (id: number, text: string): Step =>
  step('a/vcpu0', 'a/net0', 'pci.capability', { is: { id }, text });
/** PCI_CAP_ID_VNDR with a cfg_type (virtio 1.2 §4.1.4); PCI_CAP_ID_MSIX. */
const VENDOR = (type: number): number => 9 | (type << 8);
const MSIX = 0x11;
const offered: readonly Step[] = [features(0, 'what the device offers'), features(1, 'and the upper word')];
const probedByLinux: readonly Step[] = [
  capability(MSIX, 'the firmware has scanned the bus and placed the BARs; the PCI core looks for MSI-X'),
  capability(VENDOR(1), 'the driver walks the list once per type'),
  capability(VENDOR(3), 'interrupt status'),
  capability(VENDOR(2), 'doorbells'),
  capability(VENDOR(4), 'MAC, link'),
  status(0, 'reset'),
  status(1, 'ACKNOWLEDGE: a device found'),
  status(3, 'DRIVER: one that knows it'),
  features(0x8000_0000, 'what the driver accepts'),
  features(0x8000_0001, 'and the upper word'),
  status(0xb, 'FEATURES_OK, and read back'),
  step('a/vcpu0', 'a/net0', 'virtio.queue_enable', {
    is: { queue: 0, size: 256 },
    text: 'receive queue; MSI-X entries, addresses and vectors of both were written before',
  }),
  step('a/vcpu0', 'a/net0', 'virtio.queue_enable', { is: { queue: 1, size: 256 }, text: 'transmit queue' }),
  step('a/vcpu0', 'a/net0', 'virtio.queue_enable', { is: { queue: 2, size: 64 }, text: 'control queue' }),
  status(0xf, 'DRIVER_OK: the device may use the rings'),
];
const firstBuffers: readonly Step[] = [
  step('a/vcpu0', 'a/net0/rx0', 'virtq.avail_idx', {
    is: { entries: 256 },
    text: 'the driver posts empty buffers for all frames to come',
  }),
  step('a/vcpu0', 'a/net0/rx0', 'virtq.kick'),
  step('a/vcpu0', 'a/vcpu0', 'kvm.exit_ept_misconfig_kernel', { text: 'answered in the kernel: the ioeventfd works' }),
  step('a/vcpu0', 'a/net0/rx0', 'eventfd.signal'),
];

const isExit = (e: FlowEvent): boolean =>
  e.event.startsWith('kvm.exit_ept_misconfig') || e.event.startsWith('kvm.exit_io');
const named =
  (...names: string[]) =>
  (e: FlowEvent): boolean =>
    names.includes(e.event);
const syscall =
  (number: number) =>
  (e: FlowEvent): boolean =>
    e.event === 'sched.syscall' && e['number'] === number;
const byQemu = (e: FlowEvent): boolean => e.context.startsWith('qemu-');

// ---- device set-up ----------------------------------------------------------------------------------------------
const dd1: Flow = {
  id: 'dd-1',
  title: 'virtio-net inside QEMU: device set-up',
  about: [
    'A Linux guest finds a virtio-net device on PCI and brings it up. QEMU has opened a tap for it before. The guest finds the device by its ids, walks the capability list to learn in which BARs the device’s structures are, negotiates features, allocates the queues in its own memory and writes their addresses, wires MSI-X vectors, and says DRIVER_OK. Then it posts empty buffers.',
    'Every access to configuration space or to a register is a VM exit that QEMU answers. The last column counts those since the step before. Two are needed for one access to configuration space (address and data port).',
  ],
  notes: [
    'The device has one receive, one transmit and a control queue. What the driver then sends on the last is not shown here.',
    'QEMU tells the tap of the guest’s features when the driver writes them; the run shows it together with DRIVER_OK.',
    'The set-up of VM and tap is free of virtual time, and recorded on the vCPU although QEMU’s main thread does it.',
  ],
  document: twoGuests('virtio-net'),
  actions: [],
  scope: setUp(['a/vcpu0'], (e) => e.event === 'eventfd.signal'),
  steps: [
    ...hypervisor,
    ...tapOpened('virtio-net'),
    ...board,
    ...offered,
    ...ready('virtio-net'),
    ...probedByLinux,
    ...tapLearnsFeatures('virtio-net'),
    kvm(KVM_IOEVENTFD, 'doorbell of the receive queue'),
    kvm(KVM_IOEVENTFD, 'doorbell of the transmit queue'),
    kvm(KVM_IOEVENTFD, 'doorbell of the control queue'),
    ...firstBuffers,
  ],
  counts: [],
  journeys: [],
};

const vhost = (number: number, argument?: number, text?: string): Step =>
  ioctl('a/net0/vhost-net', 'vhost.ioctl', number, argument, text);
const ring = (index: number): Step[] => [
  vhost(V.VHOST_SET_VRING_NUM, index, `ring ${index}: size`),
  vhost(V.VHOST_SET_VRING_BASE, index, 'where to begin'),
  vhost(V.VHOST_SET_VRING_ADDR, index, 'where its three parts are'),
  vhost(V.VHOST_SET_VRING_KICK, index, 'the eventfd that KVM signals'),
  vhost(V.VHOST_SET_VRING_CALL, index, 'the eventfd that KVM listens to'),
];
const dd4: Flow = {
  id: 'dd-4',
  title: 'vhost-net: the hand-over',
  about: [
    'QEMU keeps the control plane: the guest’s accesses to configuration space and registers still exit to it. At DRIVER_OK it hands the rings to the kernel: it tells vhost-net where guest memory is and where the rings are, and connects them to the tap. One eventfd for each ring is known to KVM and to vhost: as **ioeventfd** it carries kicks, so that a write to the doorbell is answered in the kernel and the vCPU goes on; another, as **irqfd**, carries interrupts back.',
    'The kernel starts a worker thread at VHOST_SET_OWNER, `vhost-<pid of QEMU>`; here it is `vhost-1201`.',
  ],
  notes: [
    'Commands on the control queue, which QEMU executes on the vCPU’s thread while vhost runs, are left out.',
    'The article tells the ioctls on vhost first and the registration with KVM afterwards. QEMU does it the other way round: vhost_net_start() sets up the irqfds, then the ioeventfds, and then starts each device.',
    'The data plane that follows: [DD-5](dd-5.md).',
  ],
  document: twoGuests('vhost-net'),
  actions: [PING],
  scope: (events) => {
    const all = setUp(
      ['a/vcpu0', 'vhost-1201'],
      (e) => e.context === 'vhost-1201' && e.event === 'sched.sleep',
    )(events);
    return all.filter((e) => !named('pci.capability', 'virtio.features')(e) && !e.place.endsWith('/ctrl'));
  },
  steps: [
    ...hypervisor,
    ...tapOpened('vhost-net'),
    vhost(V.VHOST_SET_OWNER, 0, 'QEMU owns this vhost device; the worker exists'),
    vhost(V.VHOST_GET_FEATURES, undefined, 'limits what the device may offer'),
    ...board,
    ...ready('vhost-net'),
    ...probedByLinux.filter((s) => !['pci.capability', 'virtio.features'].includes(s.event)),
    ...tapLearnsFeatures('vhost-net'),
    kvm(KVM_SET_GSI_ROUTING, 'one route more: the message of the receive queue’s vector'),
    kvm(KVM_IRQFD, 'interrupts of the receive queue'),
    kvm(KVM_SET_GSI_ROUTING, 'and that of the transmit queue’s'),
    kvm(KVM_IRQFD, 'interrupts of the transmit queue'),
    kvm(KVM_IOEVENTFD, 'doorbell of the receive queue'),
    kvm(KVM_IOEVENTFD, 'doorbell of the transmit queue'),
    vhost(V.VHOST_GET_BACKEND_FEATURES),
    vhost(V.VHOST_SET_BACKEND_FEATURES),
    vhost(V.VHOST_SET_FEATURES, undefined, 'what the driver accepted, as far as it concerns the rings'),
    vhost(V.VHOST_SET_MEM_TABLE, 2, 'two regions: where guest memory is in QEMU’s address space'),
    ...ring(0),
    ...ring(1),
    vhost(V.VHOST_NET_SET_BACKEND, 0, 'the tap, for the receive ring'),
    vhost(V.VHOST_NET_SET_BACKEND, 1, 'and for the transmit ring: from here on the worker serves them'),
    ...firstBuffers.map((s) => (s.event === 'eventfd.signal' ? { ...s, name: 'posted' } : s)),
    step('vhost-1201', 'a/net0/vhost-net', 'sched.wake', {
      after: 'posted',
      takes: ['ioeventfd_signal', 'idle_backend_wakeup', 'deep_idle_exit'],
      text: 'the worker, not QEMU',
    }),
    step('vhost-1201', 'a/net0/vhost-net', 'eventfd.read', { takes: ['vhost_worker_iteration'] }),
    step('vhost-1201', 'a/net0/rx0', 'virtq.kicks_off', { text: 'there are buffers: no more kicks for them' }),
    step('vhost-1201', 'a/net0/vhost-net', 'sched.sleep'),
  ],
  counts: [
    { text: 'events of QEMU', of: byQemu, expected: 0 },
    {
      text: 'VM exits that userspace answers',
      of: named('kvm.exit_ept_misconfig_user', 'kvm.exit_io_user'),
      expected: 0,
    },
    { text: 'system calls', of: named('sched.syscall'), expected: 0 },
  ],
  countedOver: 'three echoes (six frames) after the hand-over',
  journeys: [],
};

// ---- data planes ------------------------------------------------------------------------------------------------
const dd2: Flow = {
  id: 'dd-2',
  title: 'virtio-net inside QEMU: transmit and receive',
  about: [
    'Figure 2 of the article, and the way back into another guest. The numbers are the article’s: 1 the driver puts header and frame into the ring, 2 the available buffer notification makes the vCPU exit to QEMU, 3 QEMU finds the buffers through its mapping of guest memory, 4 sends the frame to the tap by a system call, 5 puts the chain into the used ring, 6 injects an interrupt by an ioctl, 7 the vCPU is entered again.',
    'The run is at depth 1: one echo request when everything has been learned, nothing else in the way. `ioeventfd` is off, as in the figure: control goes to QEMU’s process and comes back before the guest goes on.',
  ],
  notes: [
    'With `ioeventfd` on, which is QEMU’s default, step 2 is answered in the kernel: `kvm.exit_ept_misconfig_kernel`, then `eventfd.signal`, and the main loop additionally reads the eventfd: one system call more, and `vm_exit_in_kernel_device` instead of `vm_exit_userspace` for the guest.',
    'KVM_RUN, the system call to resume the vCPU, has no cost of its own: `vm_exit_userspace` is the round trip with it. QEMU’s big lock is not modelled; what the article calls synchronisation shows as the main loop’s wake-up.',
    'The switching off of kicks is recorded for QEMU’s main loop although the vCPU thread does it while it schedules the bottom half.',
  ],
  document: twoGuests('virtio-net', { ioeventfd: false }),
  actions: [PING],
  scope: (events) => windowOf(events, SECOND_REQUEST),
  steps: [
    ...driverSends,
    step('a/vcpu0', 'a/net0/tx0', 'virtq.kick', { name: 'kicked', text: '2: available buffer notification' }),
    step('a/vcpu0', 'a/vcpu0', 'kvm.exit_ept_misconfig_user', { text: '2: the vCPU stops, control goes to QEMU' }),
    step('a/vcpu0', 'a/vcpu0', 'kvm.userspace_exit', {
      is: { exit_reason: 6 },
      text: '2: KVM_RUN returns, KVM_EXIT_MMIO',
    }),
    step('a/vcpu0', 'a/net0/tx0', 'virtq.kicks_off', {
      text: 'virtio_queue_notify() schedules the bottom half, on the vCPU’s thread',
    }),
    step('a/vcpu0', 'a/vcpu0', 'kvm.run', { text: '7: the system call that resumes the vCPU; it comes back with it' }),
    step('a/vcpu0', 'a/vcpu0', 'kvm.exit_hlt', {
      after: 'kicked',
      takes: ['vm_exit_userspace'],
      text: 'the guest went on, and has nothing more to do',
    }),
    step('qemu-a', 'a/qemu', 'sched.wake', {
      after: 'kicked',
      takes: ['vm_exit_userspace / 2', 'idle_backend_wakeup'],
      text: 'the bottom half: QEMU’s main loop wakes up',
    }),
    step('qemu-a', 'a/net0/tx0', 'virtq.pop', {
      takes: ['qemu_main_loop_iteration'],
      text: '3: the chain, through QEMU’s mapping of guest memory',
    }),
    step('qemu-a', 'a/net0/virtio-net', 'packet.copy', {
      takes: ['tap_write_syscall', '72 * copy_per_byte_kernel'],
      text: '4: into the kernel',
    }),
    step('qemu-a', 'a/net0/virtio-net', 'sched.syscall', {
      is: { number: 20 },
      text: '4: the system call, one for each frame',
    }),
    ...bridged('qemu-a', toTapOfB('qemu-a')),
    step('qemu-a', 'a/net0/tx0', 'virtq.tx_used', { text: '5: the chain goes back' }),
    step('qemu-a', 'a/net0/tx0', 'virtq.used_idx', { text: '5: and is visible' }),
    step('qemu-a', 'a/net0/tx0', 'virtq.interrupt', { text: '6: used buffer notification' }),
    step('qemu-a', 'a/net0/virtio-net', 'sched.syscall', { is: { number: 16 }, text: '6: an ioctl' }),
    step('qemu-a', 'a/vcpu0', 'kvm.signal_msi', { name: 'returned', text: '6: that injects it' }),
    step('qemu-a', 'a/net0/tx0', 'virtq.kicks_on', {
      text: 'three masks were probed: those of ARP, and of what flooded',
      takes: ['signal_msi_ioctl', '2 * ovs_kernel_mask_lookup'],
    }),
    step('qemu-a', 'a/qemu', 'sched.sleep', { takes: ['notification_enable'] }),
    step('qemu-b', 'b/qemu', 'sched.wake', {
      after: 'queued',
      takes: ['idle_backend_wakeup'],
      text: 'the other QEMU: its tap is readable',
    }),
    ...interrupted('returned', '7: the vCPU is entered again'),
    ...reclaimed,
    step('qemu-b', 'br0/b.net0/tap', 'tap.dequeue', { takes: ['qemu_main_loop_iteration'] }),
    step('qemu-b', 'b/net0/virtio-net', 'sched.syscall', {
      is: { number: 0 },
      text: 'a system call for each frame here too',
    }),
    step('qemu-b', 'b/net0/virtio-net', 'packet.copy', { text: 'the tap’s skb into a buffer of QEMU' }),
    step('qemu-b', 'b/net0/virtio-net', 'packet.copy', {
      takes: ['tap_read_syscall', '144 * copy_per_byte_kernel'],
      text: 'and from there into a buffer that the driver had posted: the third copy',
    }),
    step('qemu-b', 'b/net0/rx0', 'virtq.used'),
    step('qemu-b', 'b/net0/rx0', 'virtq.used_idx'),
    step('qemu-b', 'b/net0/rx0', 'virtq.interrupt'),
    step('qemu-b', 'b/net0/virtio-net', 'sched.syscall', { is: { number: 16 } }),
    step('qemu-b', 'b/vcpu0', 'kvm.signal_msi', { name: 'delivered' }),
    step('qemu-b', 'b/qemu', 'sched.sleep', { takes: ['signal_msi_ioctl'] }),
    ...received('delivered'),
  ],
  counts: [
    {
      text: 'the vCPU stops at each notification: exits that userspace answers',
      of: named('kvm.exit_ept_misconfig_user'),
      expected: PING_FRAMES,
    },
    { text: 'system calls that resume the vCPU', of: named('kvm.run'), expected: PING_FRAMES },
    { text: 'available buffer notifications', of: named('virtq.kick'), expected: PING_FRAMES },
    {
      text: 'QEMU’s threads have to be woken: main loops, for transmit and for receive',
      of: (e) => byQemu(e) && e.event === 'sched.wake',
      expected: 2 * PING_FRAMES,
    },
    { text: 'one system call for each frame sent', of: syscall(20), expected: PING_FRAMES },
    { text: 'one system call for each frame received', of: syscall(0), expected: PING_FRAMES },
    { text: 'copies by the host', of: named('packet.copy'), expected: 3 * PING_FRAMES },
    { text: 'an ioctl for each used buffer notification', of: syscall(16), expected: 2 * PING_FRAMES },
    { text: 'interrupts injected by it', of: named('kvm.signal_msi'), expected: 2 * PING_FRAMES },
  ],
  countedOver: 'three echoes (six frames)',
  journeys: [SECOND_REQUEST],
};

const dd5: Flow = {
  id: 'dd-5',
  title: 'vhost-net: transmit and receive',
  about: [
    'Figure 4 of the article. The guest does what it did before ([DD-2](dd-2.md)) and cannot tell the difference. The notification is answered in the kernel, a kernel thread takes the frame to the tap, and an irqfd brings the interrupt. On the way back the worker of the other guest is woken by its tap and fills buffers that its driver had posted.',
  ],
  notes: [],
  document: twoGuests('vhost-net'),
  actions: [PING],
  scope: (events) => windowOf(events, SECOND_REQUEST),
  steps: [
    ...driverSends,
    ...vhostSends(toTapOfB('vhost-1201')),
    vhostRested,
    step('vhost-1202', 'b/net0/vhost-net', 'sched.wake', {
      after: 'queued',
      takes: ['idle_backend_wakeup'],
      text: 'the other worker: its tap is readable',
    }),
    ...interrupted('returned', 'the vCPU of a runs again'),
    step('vhost-1202', 'br0/b.net0/tap', 'tap.dequeue', { takes: ['vhost_worker_iteration', 'vhost_burst_fixed'] }),
    ...reclaimed,
    ...vhostDelivers('b', 'vhost-1202'),
    ...received('delivered'),
  ],
  counts: [
    { text: 'available buffer notifications', of: named('virtq.kick'), expected: PING_FRAMES },
    { text: 'VM exits that the kernel answers', of: named('kvm.exit_ept_misconfig_kernel'), expected: PING_FRAMES },
    {
      text: 'VM exits that userspace answers',
      of: named('kvm.exit_ept_misconfig_user', 'kvm.exit_io_user'),
      expected: 0,
    },
    { text: 'interrupts through irqfd', of: named('kvm.irqfd'), expected: 2 * PING_FRAMES },
    { text: 'system calls', of: named('sched.syscall'), expected: 0 },
    { text: 'copies by the host', of: named('packet.copy'), expected: 2 * PING_FRAMES },
    {
      text: 'wake-ups of workers',
      of: (e) => e.context.startsWith('vhost-') && e.event === 'sched.wake',
      expected: 2 * PING_FRAMES,
    },
    { text: 'events of QEMU', of: byQemu, expected: 0 },
  ],
  countedOver: 'three echoes (six frames)',
  journeys: [SECOND_REQUEST],
};

const LIBRARY_LINES = '3 * cross_core_cache_line';
const vu2: Flow = {
  id: 'vu-2',
  title: 'vhost-user: data plane',
  about: [
    'Nobody notifies anybody: both sides poll. The guest’s PMD writes descriptors and the available index; the poll-mode thread of the switch sees the index change, copies the frame into an mbuf, returns the chain through the used ring, classifies the frame and copies it into a buffer of the other guest, whose PMD sees the used index change. No VM exit, no interrupt, no system call, no wake-up.',
  ],
  notes: [
    'Addresses in descriptors are guest-physical here: the guests have no IOMMU. With one, step 3 of the article is VU-3.',
    'How long the switch takes to see a frame depends on where in its round of polling it is: at most `pmd_idle_iteration` when it is idle.',
    'What a classifier costs beyond the exact match cache is spent after the lookup is recorded: it shows before the next copy.',
  ],
  document: twoGuests('vhost-user', { driver: 'virtio-pmd' }),
  actions: [PING],
  scope: (events) => windowOf(events, SECOND_REQUEST),
  steps: [
    step('a/vcpu0', 'a/net0', 'packet.born'),
    step('a/vcpu0', 'a/net0', 'guest.xmit', { text: '1: the PMD writes header, descriptors' }),
    step('a/vcpu0', 'a/net0/tx0', 'virtq.avail', { text: '1: and the available ring' }),
    step('a/vcpu0', 'a/net0/tx0', 'virtq.kick_suppressed', { text: 'VRING_USED_F_NO_NOTIFY is set: no notification' }),
    step('pmd-c07', 'a/net0/tx0', 'virtq.pop', { text: '2: the host’s PMD polls and sees it' }),
    step('pmd-c07', 'a/net0/vhost-user', 'packet.copy', {
      takes: ['vhost_dequeue', LIBRARY_LINES, '72 * copy_per_byte_vhost_user'],
      text: '4: into an mbuf',
    }),
    step('pmd-c07', 'a/net0/tx0', 'virtq.tx_used', { text: '5: the descriptors go back' }),
    step('pmd-c07', 'br0/a.net0', 'dp.ingress'),
    step('pmd-c07', 'br0', 'dp.megaflow_hit', {
      takes: ['emc_pass'],
      text: '6: not in the exact match cache (one lookup in a hundred enters it), found by the classifier',
    }),
    step('pmd-c07', 'br0/b.net0', 'dp.output'),
    step('pmd-c07', 'a/net0/tx0', 'virtq.used_idx', { text: '5: visible to the guest, once for each burst' }),
    step('pmd-c07', 'a/net0/tx0', 'virtq.interrupt_suppressed', { text: 'the guest’s PMD wants no interrupts' }),
    step('pmd-c07', 'b/net0/vhost-user', 'packet.copy', {
      takes: [
        'emc_miss_to_dpcls',
        'dpcls_subtable_lookup',
        'vhost_burst_overhead',
        'vhost_enqueue',
        '72 * copy_per_byte_vhost_user',
      ],
      text: 'mbuf to guest memory',
    }),
    step('pmd-c07', 'b/net0/rx0', 'virtq.used'),
    step('pmd-c07', 'b/net0/rx0', 'virtq.used_idx'),
    step('pmd-c07', 'b/net0/rx0', 'virtq.interrupt_suppressed'),
    step('b/vcpu0', 'b/net0', 'guest.rx', { text: 'b’s PMD polls and sees it' }),
    step('b/vcpu0', 'b/net0', 'guest.consume'),
    step('b/vcpu0', 'b/net0/rx0', 'virtq.avail_idx', { text: 'a fresh buffer in its place' }),
    step('b/vcpu0', 'b/net0/rx0', 'virtq.kick_suppressed'),
  ],
  counts: [
    { text: 'VM exits of any kind', of: (e) => e.event.startsWith('kvm.'), expected: 0 },
    { text: 'available buffer notifications', of: named('virtq.kick'), expected: 0 },
    { text: 'used buffer notifications', of: named('virtq.interrupt', 'eventfd.signal', 'guest.irq'), expected: 0 },
    { text: 'system calls', of: named('sched.syscall'), expected: 0 },
    { text: 'wake-ups', of: named('sched.wake', 'sched.sleep'), expected: 0 },
    { text: 'copies by the host', of: named('packet.copy'), expected: 2 * PING_FRAMES },
    { text: 'events of QEMU', of: byQemu, expected: 0 },
  ],
  countedOver: 'three echoes (six frames)',
  journeys: [SECOND_REQUEST],
};

// ---- notification control ---------------------------------------------------------------------------------------
/** Frames from a to b of a protocol that no stack takes. */
const frames = (count: number) => ({
  frames: {
    at: 'a/net0',
    frames: Array.from(
      { length: count },
      (_, i) => `${'5254'}00000002${'5254'}0000000188b5${'00'.repeat(45)}${i.toString(16).padStart(2, '0')}`,
    ),
  },
});
const BURST = 4;
const notification = /^virtq\.(kick|interrupt)/;
const notifications = (events: readonly FlowEvent[]): FlowEvent[] =>
  since(events, 3).filter((e) => notification.test(e.event) || e.event === 'guest.irq' || e.event === 'eventfd.read');
const rest = (usedEvent: number): Step[] => [
  step('vhost-1201', 'a/net0/tx0', 'virtq.interrupt', {
    is: { used_event: usedEvent, used_idx: 5 },
    text: 'four chains went back together: one interrupt',
  }),
  step('vhost-1201', 'a/net0/tx0', 'virtq.kicks_on', {
    is: { avail_event: 5 },
    text: 'the ring is empty: the next frame shall kick',
  }),
  step('a/vcpu0', 'a/net0/tx0', 'guest.irq'),
  step('a/vcpu0', 'a/net0/tx0', 'virtq.interrupts_off', { text: 'NAPI polls now' }),
  step('a/vcpu0', 'a/net0/tx0', 'virtq.interrupts_on', { text: '… and is done' }),
  step('vhost-1202', 'b/net0/rx0', 'virtq.interrupt', { text: 'four frames: one interrupt' }),
  step('b/vcpu0', 'b/net0/rx0', 'guest.irq'),
  step('b/vcpu0', 'b/net0/rx0', 'virtq.interrupts_off'),
  step('b/vcpu0', 'b/net0/rx0', 'virtq.interrupts_on'),
];
const dd3about = [
  'Both sides can tell the other to be silent. The device switches kicks off while it works on the ring and on again before it sleeps; NAPI does the same with interrupts. A guest that sends faster than the other side wakes up pays one notification for many frames: batching. Who polls all the time leaves them off ([VU-2](vu-2.md)).',
];
const dd3: Flow = {
  id: 'dd-3',
  title: 'notification control, with event idx',
  about: [
    ...dd3about,
    'With VIRTIO_RING_F_EVENT_IDX each side writes the index at which it wants to hear again, `avail_event` and `used_event`. Four frames in a row: the worker asked to be kicked at entry 1, and until it asks again, every further entry is behind that: they stay silent without its doing anything.',
  ],
  notes: ['The same without event idx: [DD-3, flags](dd-3-flags.md).'],
  document: twoGuests('vhost-net'),
  actions: [frames(1), frames(BURST)],
  scope: notifications,
  steps: [
    step('a/vcpu0', 'a/net0/tx0', 'virtq.kick', {
      is: { avail_idx: 2 },
      text: 'avail_event is 1: passed by this entry',
    }),
    ...[3, 4, 5].map((index) =>
      step('a/vcpu0', 'a/net0/tx0', 'virtq.kick_suppressed', {
        is: { avail_event: 1, avail_idx: index },
        text: 'avail_event is still 1: not passed again',
      }),
    ),
    step('vhost-1201', 'a/net0/vhost-net', 'eventfd.read', { is: { counter: 1 }, text: 'the worker runs' }),
    step('vhost-1201', 'a/net0/tx0', 'virtq.kicks_off'),
    ...rest(3),
  ],
  counts: [
    { text: 'frames', of: named('guest.xmit'), expected: BURST },
    { text: 'kicks, each an exit', of: (e) => e.event === 'virtq.kick', expected: 1 },
    { text: 'VM exits of device access', of: isExit, expected: 1 },
    {
      text: 'kicks that the ring said are not needed',
      of: (e) => e.event === 'virtq.kick_suppressed',
      expected: BURST - 1,
    },
    { text: 'interrupts, both guests', of: named('virtq.interrupt'), expected: 2 },
  ],
  countedOver: 'a burst of four frames',
  journeys: [],
};
const dd3flags: Flow = {
  ...dd3,
  id: 'dd-3-flags',
  title: 'notification control, with flags',
  about: [
    ...dd3about,
    'Without event idx there is one flag each, VRING_USED_F_NO_NOTIFY and VRING_AVAIL_F_NO_INTERRUPT. The flag is set when the worker runs, and it needs some µs to wake up: all four frames are sent before, and each of them kicks. The eventfd counts them; one read takes all.',
  ],
  notes: [
    'The same with event idx: [DD-3](dd-3.md).',
    '`avail_event` and `used_event` are shown although the flags alone decide here.',
  ],
  document: twoGuests('vhost-net', { features: { VIRTIO_RING_F_EVENT_IDX: false } }),
  steps: [
    ...[2, 3, 4, 5].map((index) =>
      step('a/vcpu0', 'a/net0/tx0', 'virtq.kick', { is: { avail_idx: index }, text: 'the flag is not set (yet)' }),
    ),
    step('vhost-1201', 'a/net0/vhost-net', 'eventfd.read', {
      is: { counter: 4 },
      text: 'the worker runs; four kicks, one wake-up',
    }),
    step('vhost-1201', 'a/net0/tx0', 'virtq.kicks_off', { text: 'now it is' }),
    ...rest(0),
  ],
  counts: [
    { text: 'frames', of: named('guest.xmit'), expected: BURST },
    { text: 'kicks, each an exit', of: (e) => e.event === 'virtq.kick', expected: BURST },
    { text: 'VM exits of device access', of: isExit, expected: BURST },
    { text: 'interrupts, both guests', of: named('virtq.interrupt'), expected: 2 },
  ],
};

// ---- the outside world ------------------------------------------------------------------------------------------
const dd6: Flow = {
  id: 'dd-6',
  title: 'the outside world: Open vSwitch between taps and a NIC',
  about: [
    'Figure 5 of the article: QEMU processes with a tap and a vhost worker each, all of them ports of one bridge beside a physical NIC. The kernel datapath forwards what it has a flow for; the first frame of each flow goes up to ovs-vswitchd, whose handler translates it by the OpenFlow table, here `NORMAL`: it learns the source address, installs a flow, and sends the frame on.',
    'Two frames: one from the wire to guest a, of a flow that the datapath does not know yet, and one from guest a out to the wire, whose flow was installed for an unknown destination and has been translated again since (`dp.revalidate`).',
  ],
  notes: [
    'The bridge has the one flow that ovs-vsctl add-br gives it.',
    'The source on the wire is a traffic generator: it does not ask by ARP, so the first frame of guest a was flooded.',
  ],
  document: twoGuests('vhost-net', {}, { nics: [{ name: 'eth0', bridge: 'br0' }] }),
  actions: [
    { traffic: { kind: 'udp', from: 'a/net0', to: 'eth0', count: 1 } },
    { traffic: { kind: 'udp', from: 'eth0', to: 'a/net0', count: 2, rate: 1000 } },
    { traffic: { kind: 'udp', from: 'a/net0', to: 'eth0', count: 1 } },
  ],
  scope: (events) =>
    [...windowOf(events, 4), ...windowOf(events, 6)].filter((e) => !(e.event === 'kvm.entry' && e['pending'] === 0)),
  steps: [
    step('eth0-wire', 'eth0/wire', 'packet.born'),
    step('eth0-wire', 'eth0/wire', 'nic.wire_tx', { text: 'the cable' }),
    step('eth0-rx', 'eth0', 'nic.wire_rx', { name: 'arrived' }),
    step('eth0-rx', 'eth0', 'packet.dma', { text: 'the NIC writes it into the receive ring: no CPU copies it' }),
    step('softirq-eth0', 'eth0', 'sched.wake', { after: 'arrived', takes: ['idle_backend_wakeup', 'deep_idle_exit'] }),
    step('softirq-eth0', 'eth0', 'nic.interrupt'),
    step('softirq-eth0', 'eth0', 'nic.rx', { takes: ['guest_napi_poll', 'napi_rx_per_packet'] }),
    step('softirq-eth0', 'br0/eth0', 'dp.ingress'),
    step('softirq-eth0', 'br0', 'dp.miss', { takes: ['ovs_kernel_per_packet'], text: 'no flow matches' }),
    step('softirq-eth0', 'br0', 'dp.upcall_copy', { name: 'up', text: 'to ovs-vswitchd, by netlink' }),
    step('softirq-eth0', 'eth0', 'sched.sleep'),
    step('handler-br0', 'br0', 'sched.wake', { after: 'up', takes: ['idle_backend_wakeup'] }),
    step('handler-br0', 'br0', 'dp.fdb_learn', { takes: ['upcall'], text: 'who sent it is behind eth0' }),
    step('handler-br0', 'br0', 'dp.upcall', { is: { actions: 1 }, text: 'its destination is known: one output' }),
    step('revalidator-br0', 'br0', 'dp.revalidate', {
      text: 'what was flooded to it before goes out of one port from now on',
    }),
    step('handler-br0', 'br0', 'dp.flow_put', { text: 'the next frame stays in the kernel' }),
    step('handler-br0', 'br0', 'dp.upcall_copy', { text: 'and the frame comes back' }),
    step('handler-br0', 'br0/a.net0', 'dp.output'),
    step('handler-br0', 'br0/a.net0/tap', 'tap.enqueue', { name: 'queued' }),
    step('handler-br0', 'br0', 'sched.sleep'),
    step('vhost-1201', 'a/net0/vhost-net', 'sched.wake', { after: 'queued', takes: ['idle_backend_wakeup'] }),
    step('vhost-1201', 'br0/a.net0/tap', 'tap.dequeue', { takes: ['vhost_worker_iteration', 'vhost_burst_fixed'] }),
    ...vhostDelivers('a', 'vhost-1201'),
    ...received('delivered', 'a', 'guest.deliver'),
    step('a/vcpu0', 'a/vcpu0', 'kvm.exit_hlt', { takes: ['notification_enable'] }),
    ...driverSends.map((s) =>
      s.event === 'packet.born'
        ? { ...s, text: 'the second frame: from guest a' }
        : { ...s, text: s.text?.replace(/^1: /, '') ?? '' },
    ),
    ...vhostSends([
      step('vhost-1201', 'br0/eth0', 'dp.output', { text: 'one port: it is known where that address is' }),
      step('vhost-1201', 'eth0', 'nic.tx', { name: 'handed', text: 'into the transmit ring' }),
    ]),
    step('eth0-tx', 'eth0', 'packet.dma', { after: 'handed' }),
    step('eth0-tx', 'eth0', 'nic.wire_tx', { text: '84 bytes at 25 Gbit/s with FCS, preamble and gap' }),
    step('eth0-tx', 'eth0/wire', 'wire.deliver'),
    vhostRested,
    ...interrupted('returned', 'guest a takes its buffer back'),
    ...reclaimed,
  ],
  counts: [
    { text: 'frames that missed: the first of each flow', of: named('dp.miss'), expected: 2 },
    { text: 'upcalls', of: named('dp.upcall'), expected: 2 },
    { text: 'flows installed', of: named('dp.flow_put'), expected: 2 },
    { text: 'frames that hit', of: named('dp.hit'), expected: 2 },
    { text: 'transfers by DMA', of: named('packet.dma'), expected: 4 },
  ],
  countedOver: 'two frames each way, the first one from guest a flooded',
  journeys: [4, 6],
};

export const FLOWS: readonly Flow[] = [
  dd1,
  dd2,
  dd3,
  dd3flags,
  dd4,
  dd5,
  dd6,
  ...SV_FLOWS,
  vu1,
  vu2,
  ...VU3_FLOWS,
  ...QM_FLOWS,
];
/** The first frame that a flow's counts look at. */
export const COUNTED_FROM: Readonly<Record<string, number>> = {
  ...SV_COUNTED_FROM,
  ...QM_COUNTED_FROM,
  ...VU3_COUNTED_FROM,
  'dd-2': FIRST_REQUEST,
  'dd-4': FIRST_REQUEST,
  'dd-5': FIRST_REQUEST,
  'vu-2': FIRST_REQUEST,
  'dd-3': 3,
  'dd-3-flags': 3,
  'dd-6': 1,
};
