/**
 * The flows of the StratoVirt article: virtio-net that StratoVirt serves itself, vhost-net, vhost-user-net. Read flow.ts first.
 */

import { TUNGETFEATURES, TUNSETIFF, TUNSETVNETHDRSZ } from '../../src/machine/host/tun-ioctls.ts';
import * as V from '../../src/machine/vhost/kernel/vhost-net.ts';
import { KVM_IOEVENTFD, KVM_IRQFD } from '../../src/machine/wire/kvm.ts';
import * as M from '../../src/machine/wire/vhost-user-requests.ts';
import type { Flow, FlowEvent, Step } from './flow.ts';
import { windowOf } from './scopes.ts';

/** Two guests of StratoVirt that ping each other. */
function twoGuests(backend: string, nic: object = {}): object {
  const guest = (name: string, address: string): object => ({
    ...{ name, vmm: 'stratovirt' },
    nics: [{ name: 'net0', bridge: 'br0', backend, addresses: [address], ...nic }],
  });
  const datapath = backend === 'vhost-user' ? 'netdev' : 'system';
  const guests = [guest('a', '10.0.0.1/24'), guest('b', '10.0.0.2/24')];
  return { hosts: [{ name: 'h1', bridges: [{ name: 'br0', datapath }], guests }] };
}
const STANDARD_VM = { transport: 'pci-modern' };
const PING = { traffic: { kind: 'ping', from: 'a/net0', to: 'b/net0', count: 3 } } as const;
/** After ARP (frames 1 and 2) and the first echo (3 and 4): everything is learned, nothing else goes on. */
const FIRST_REQUEST = 4;
const SECOND_REQUEST = 6;
const PING_FRAMES = 6;

const named =
  (...names: string[]) =>
  (e: FlowEvent): boolean =>
    names.includes(e.event);
const syscall =
  (number: number) =>
  (e: FlowEvent): boolean =>
    e.event === 'sched.syscall' && e['number'] === number;
/** KVM_RUN and its return go with each exit to userspace, and are not told again. */
const quiet = named('kvm.run', 'kvm.userspace_exit');
const secondRequest = (events: readonly FlowEvent[]): FlowEvent[] =>
  windowOf(events, SECOND_REQUEST).filter((e) => !quiet(e));
/** What StratoVirt and the driver do until the back-end has all rings: status, queues, eventfds with KVM, the back-end's own. */
function handOver(last: (e: FlowEvent) => boolean) {
  return (events: readonly FlowEvent[]): FlowEvent[] => {
    const told = named(
      'vhost.ioctl',
      'vhost.user_request',
      'vhost.user_reply',
      'tap.ioctl',
      'virtio.status',
      'virtio.queue_enable',
    );
    const eventfds = (e: FlowEvent): boolean =>
      e.event === 'kvm.ioctl' && [KVM_IRQFD, KVM_IOEVENTFD].includes(Number(e['ioctl']));
    const own = events.filter((e) => e.context === 'a/vcpu0' && (told(e) || eventfds(e)));
    return own.slice(0, own.findLastIndex(last) + 1);
  };
}

function step(
  context: string,
  place: string,
  event: string,
  more: Omit<Step, 'context' | 'place' | 'event'> = {},
): Step {
  return { context, place, event, ...more };
}
const HALTED = ['msi_injection', '-vm_exit_in_kernel_device', 'halted_vcpu_wakeup'] as const;
const sends: readonly Step[] = [
  step('a/vcpu0', 'a/net0', 'packet.born'),
  step('a/vcpu0', 'a/net0', 'guest.xmit', { text: 'header and frame lie in guest memory' }),
  step('a/vcpu0', 'a/net0/tx0', 'virtq.avail', { text: 'the request is stored in the send queue' }),
];
/** The guest traps, KVM answers. */
const traps = (who: string): Step[] => [
  step('a/vcpu0', 'a/net0/tx0', 'virtq.kick', { text: 'the driver writes the notify register' }),
  step('a/vcpu0', 'a/vcpu0', 'kvm.exit_ept_misconfig_kernel', { text: 'KVM: the guest traps, an ioeventfd is there' }),
  step('a/vcpu0', 'a/net0/tx0', 'eventfd.signal', { name: 'kicked', text: `KVM notifies ${who} by it` }),
  step('a/vcpu0', 'a/vcpu0', 'kvm.exit_hlt', {
    after: 'kicked',
    takes: ['vm_exit_in_kernel_device'],
    text: 'the guest went on at once, and has nothing more to do',
  }),
];
const throughBridge = (context: string): Step[] => [
  step(context, 'br0/a.net0/tap', 'tap.xmit', { text: 'the frame enters the host stack' }),
  step(context, 'br0/a.net0', 'dp.ingress'),
  step(context, 'br0', 'dp.hit', { takes: ['ovs_kernel_per_packet'] }),
  step(context, 'br0/b.net0', 'dp.output'),
  step(context, 'br0/b.net0/tap', 'tap.enqueue', { name: 'queued' }),
];
const entered = (guest: string, queue: string, after: string, text: string): Step[] => [
  step(`${guest}/vcpu0`, `${guest}/vcpu0`, 'kvm.entry', { after, takes: HALTED, text }),
  step(`${guest}/vcpu0`, `${guest}/net0/${queue}`, 'guest.irq'),
  step(`${guest}/vcpu0`, `${guest}/net0/${queue}`, 'virtq.interrupts_off'),
  step(`${guest}/vcpu0`, `${guest}/net0/${queue}`, 'guest.napi_poll'),
];
const received: readonly Step[] = [
  step('b/vcpu0', 'b/net0', 'guest.rx', { takes: ['guest_napi_poll', 'guest_rx_per_packet'] }),
  step('b/vcpu0', 'b/net0', 'guest.consume'),
  step('b/vcpu0', 'b/net0/rx0', 'virtq.interrupts_on'),
];

// ---- SV-1 -------------------------------------------------------------------------------------------------------
const sv1: Flow = {
  id: 'sv-1',
  title: 'StratoVirt virtio-net: send and receive',
  about: [
    'StratoVirt serves the device in its own process: an I/O handler (`NetIoHandler`) holds the receive queue with its event, the transmit queue with its event, and the tap with its descriptor, and the event loop polls the three. To send, the guest stores its request in the send queue and traps; KVM notifies StratoVirt by the eventfd; it takes the data from the ring and writes them to the tap. To receive, the tap becomes readable; StratoVirt takes a chain from the available ring, reads the frame from the tap straight into the guest’s buffers (`readv`), adds the used entry with the length, and goes on while the tap has frames. One interrupt, by an irqfd, follows at the end.',
    'The machine is a microVM: the device is on virtio-mmio and has one interrupt line. Compare [DD-2](dd-2.md), QEMU’s way: one copy more on receipt, because the tap is read into a buffer of QEMU’s, an interrupt for each frame, and an ioctl instead of the irqfd.',
  ],
  notes: [
    'The article follows StratoVirt up to 2.1, which interrupts once at the end of a burst whatever the driver asked for. From 2.2 on it asks the ring after each frame, and signals the eventfd of a queue again after as many frames as the queue has entries. Here it asks the ring once, at the end.',
    'On virtio-mmio the driver reads InterruptStatus and acknowledges it: two exits to StratoVirt for each interrupt. They are spent in the interrupt handler, before the poll; the recording shows them behind it, at the time at which they are over. On the standard VM’s PCI there are none, and StratoVirt injects by KVM_SIGNAL_MSI.',
    'The `readv` that finds the tap empty (EAGAIN) is a system call of its own, without a frame.',
  ],
  document: twoGuests('virtio-net'),
  actions: [PING],
  scope: secondRequest,
  steps: [
    ...sends,
    ...traps('StratoVirt'),
    step('stratovirt-a', 'a/stratovirt', 'sched.wake', {
      after: 'kicked',
      takes: ['ioeventfd_signal', 'idle_backend_wakeup'],
      text: 'the event loop returns from epoll_wait()',
    }),
    step('stratovirt-a', 'a/net0/virtio-net', 'sched.syscall', {
      is: { number: 0 },
      takes: ['stratovirt_loop_iteration'],
      text: 'it reads the event of the send queue',
    }),
    step('stratovirt-a', 'a/net0/virtio-net', 'eventfd.read', { is: { counter: 1 } }),
    step('stratovirt-a', 'a/net0/tx0', 'virtq.pop', {
      takes: ['syscall_entry_exit'],
      text: 'handle_tx(): takes the chain from the ring',
    }),
    step('stratovirt-a', 'a/net0/virtio-net', 'packet.copy', {
      takes: ['tap_write_syscall', '72 * copy_per_byte_kernel'],
      text: 'and sends the frame to the tap',
    }),
    step('stratovirt-a', 'a/net0/virtio-net', 'sched.syscall', { is: { number: 20 }, text: 'writev()' }),
    ...throughBridge('stratovirt-a'),
    step('stratovirt-a', 'a/net0/tx0', 'virtq.tx_used', { text: 'the chain goes back' }),
    step('stratovirt-a', 'a/net0/tx0', 'virtq.used_idx'),
    step('stratovirt-a', 'a/net0/tx0', 'virtq.kicks_on', {
      text: 'avail_event has gone along: the next frame shall kick',
    }),
    step('stratovirt-a', 'a/net0/tx0', 'virtq.interrupt', {
      takes: ['notification_enable'],
      text: 'the ring is empty; the driver wants its buffer back',
    }),
    step('stratovirt-a', 'a/net0/virtio-net', 'sched.syscall', {
      is: { number: 1 },
      text: 'write() to the irqfd; InterruptStatus is set',
    }),
    step('stratovirt-a', 'a/vcpu0', 'eventfd.signal'),
    step('stratovirt-a', 'a/vcpu0', 'kvm.irqfd', { name: 'returned', text: 'KVM injects' }),
    step('stratovirt-a', 'a/stratovirt', 'sched.sleep', { takes: ['irqfd_write'] }),
    step('stratovirt-b', 'b/stratovirt', 'sched.wake', {
      after: 'queued',
      takes: ['idle_backend_wakeup'],
      text: 'the other StratoVirt: its tap is readable',
    }),
    ...entered('a', 'tx0', 'returned', 'the vCPU of a runs again'),
    step('a/vcpu0', 'a/net0/tx0', 'virtq.reclaim', { takes: ['guest_napi_poll', 'guest_tx_clean'] }),
    step('a/vcpu0', 'a/net0/tx0', 'virtq.interrupts_on'),
    step('stratovirt-b', 'br0/b.net0/tap', 'tap.dequeue', {
      takes: ['stratovirt_loop_iteration'],
      text: 'handle_rx(): takes a chain, translates its writable parts',
    }),
    step('stratovirt-b', 'b/net0/virtio-net', 'sched.syscall', { is: { number: 19 }, text: 'readv() from the tap' }),
    step('a/vcpu0', 'a/vcpu0', 'kvm.exit_ept_misconfig_user', { text: 'InterruptStatus was read' }),
    step('stratovirt-b', 'b/net0/virtio-net', 'packet.copy', {
      takes: ['tap_read_syscall', '72 * copy_per_byte_kernel'],
      text: 'straight into the guest’s buffer',
    }),
    step('stratovirt-b', 'b/net0/rx0', 'virtq.used', { text: 'the used entry with the length' }),
    step('stratovirt-b', 'b/net0/rx0', 'virtq.used_idx'),
    step('stratovirt-b', 'b/net0/virtio-net', 'sched.syscall', {
      is: { number: 19 },
      text: 'the tap has no more: EAGAIN',
    }),
    step('stratovirt-b', 'b/net0/rx0', 'virtq.interrupt', {
      takes: ['syscall_entry_exit'],
      text: 'something was received: one interrupt at the end',
    }),
    step('stratovirt-b', 'b/net0/virtio-net', 'sched.syscall', { is: { number: 1 }, text: 'by the irqfd' }),
    step('stratovirt-b', 'b/vcpu0', 'eventfd.signal'),
    step('stratovirt-b', 'b/vcpu0', 'kvm.irqfd', { name: 'delivered' }),
    step('stratovirt-b', 'b/stratovirt', 'sched.sleep', { takes: ['irqfd_write'] }),
    step('a/vcpu0', 'a/vcpu0', 'kvm.exit_ept_misconfig_user', { text: 'and acknowledged' }),
    step('a/vcpu0', 'a/vcpu0', 'kvm.exit_hlt'),
    ...entered('b', 'rx0', 'delivered', 'the vCPU of b runs'),
    ...received,
    step('b/vcpu0', 'b/vcpu0', 'kvm.exit_ept_misconfig_user', { text: 'here, too: InterruptStatus was read' }),
    step('b/vcpu0', 'b/vcpu0', 'kvm.exit_ept_misconfig_user', { text: 'and acknowledged' }),
  ],
  counts: [
    { text: 'available buffer notifications', of: named('virtq.kick'), expected: PING_FRAMES },
    {
      text: 'of them answered in the kernel: no exit to userspace',
      of: named('kvm.exit_ept_misconfig_kernel'),
      expected: PING_FRAMES,
    },
    {
      text: 'exits that StratoVirt answers: InterruptStatus read and acknowledged, for each interrupt',
      of: named('kvm.exit_ept_misconfig_user'),
      expected: 4 * PING_FRAMES,
    },
    { text: 'frames written to the tap, a system call each', of: syscall(20), expected: PING_FRAMES },
    { text: 'frames read from the tap, and as many times nothing', of: syscall(19), expected: 2 * PING_FRAMES },
    { text: 'copies by the host', of: named('packet.copy'), expected: 2 * PING_FRAMES },
    { text: 'interrupts through irqfd', of: named('kvm.irqfd'), expected: 2 * PING_FRAMES },
    { text: 'ioctls of the data path', of: syscall(16), expected: 0 },
    { text: 'events of QEMU', of: (e) => e.context.startsWith('qemu-'), expected: 0 },
  ],
  countedOver: 'three echoes (six frames)',
  journeys: [SECOND_REQUEST],
};

// ---- SV-2 -------------------------------------------------------------------------------------------------------
const onVcpu = (place: string, event: string, is: Readonly<Record<string, number>>, text?: string): Step =>
  step('a/vcpu0', place, event, { is, ...(text === undefined ? {} : { text }) });
const vhost = (ioctl: number, argument?: number, text?: string): Step =>
  onVcpu('a/net0/vhost-net', 'vhost.ioctl', { ioctl, ...(argument === undefined ? {} : { argument }) }, text);
const tap = (ioctl: number, text: string): Step => onVcpu('a/net0/vhost-net', 'tap.ioctl', { ioctl }, text);
const driver: readonly Step[] = [
  onVcpu('a/net0', 'virtio.status', { acceptedStatus: 0 }, 'the guest’s driver: reset'),
  onVcpu('a/net0', 'virtio.status', { acceptedStatus: 1 }, 'ACKNOWLEDGE'),
  onVcpu('a/net0', 'virtio.status', { acceptedStatus: 3 }, 'DRIVER'),
  onVcpu('a/net0', 'virtio.status', { acceptedStatus: 0xb }, 'FEATURES_OK'),
  onVcpu('a/net0', 'virtio.queue_enable', { queue: 0, size: 256 }, 'receive queue'),
  onVcpu('a/net0', 'virtio.queue_enable', { queue: 1, size: 256 }, 'transmit queue; there is no control queue'),
  onVcpu('a/net0', 'virtio.status', { acceptedStatus: 0xf }, 'DRIVER_OK: the device is activated'),
  onVcpu('a/vcpu0', 'kvm.ioctl', { ioctl: KVM_IRQFD }, 'KVM: the call eventfd of the receive queue becomes an irqfd'),
  onVcpu('a/vcpu0', 'kvm.ioctl', { ioctl: KVM_IRQFD }, 'KVM: and that of the transmit queue'),
  onVcpu('a/vcpu0', 'kvm.ioctl', { ioctl: KVM_IOEVENTFD }, 'KVM: the kick eventfd of the receive queue'),
  onVcpu('a/vcpu0', 'kvm.ioctl', { ioctl: KVM_IOEVENTFD }, 'KVM: and of the transmit queue'),
];
const activatedRing = (index: number): Step[] => [
  vhost(V.VHOST_SET_VRING_NUM, index, `vhost: ring ${index}, its size`),
  vhost(V.VHOST_SET_VRING_ADDR, index, 'vhost: where its three parts are'),
  vhost(V.VHOST_SET_VRING_BASE, index, 'vhost: begin at 0'),
  vhost(V.VHOST_SET_VRING_KICK, index, 'vhost: the eventfd that KVM signals'),
  vhost(V.VHOST_SET_VRING_CALL, index, 'vhost: the eventfd that KVM listens to'),
  vhost(V.VHOST_NET_SET_BACKEND, index, 'vhost: the tap as the ring’s backend; the worker serves it'),
];
const sv2: Flow = {
  id: 'sv-2',
  title: 'StratoVirt vhost-net: activate, send and receive',
  about: [
    'When the driver says DRIVER_OK, StratoVirt activates the device: it tells vhost-net the features and where guest memory is, and then brings each queue up to its end before the next one: size, addresses, base 0, kick eventfd, call eventfd, tap. QEMU’s order is another: [DD-4](dd-4.md) has the base before the addresses and the taps last.',
    'What follows is [DD-5](dd-5.md): KVM turns the write to the notify register into a signal, vhost’s worker moves the frame, KVM turns the call eventfd into an interrupt. StratoVirt takes no part.',
  ],
  notes: [
    'The machine is StratoVirt’s standard VM: the device is on PCI, and its call eventfds are irqfds. On a microVM they come to StratoVirt’s event loop instead, because a device on virtio-mmio has to set its InterruptStatus before the guest is interrupted; it then writes the irqfd of the line.',
    'StratoVirt sets all features that vhost-net of the kernel has, whatever the driver accepted; here it sets those that were accepted.',
    'RAM of StratoVirt’s machines begins at 0 and is one region, without the hole that a PC has below 1 MiB.',
    'The vhost device does not tell the tap what the guest takes (TUNSETOFFLOAD): the host completes checksums and cuts large segments for it.',
  ],
  document: twoGuests('vhost-net', STANDARD_VM),
  actions: [PING],
  scope: (events) => [...handOver((e) => e.event === 'vhost.ioctl')(events), ...secondRequest(events)],
  steps: [
    vhost(V.VHOST_SET_OWNER, undefined, 'vhost: the device has an owner; the worker exists'),
    tap(TUNSETIFF, 'IFF_TAP, IFF_NO_PI, IFF_VNET_HDR'),
    tap(TUNGETFEATURES, 'what the kernel can'),
    tap(TUNSETVNETHDRSZ, 'the header has num_buffers'),
    vhost(V.VHOST_GET_FEATURES, undefined, 'vhost: what the device may offer'),
    ...driver,
    vhost(V.VHOST_SET_FEATURES, undefined, 'vhost: activate() begins'),
    vhost(V.VHOST_SET_MEM_TABLE, 1, 'vhost: one region, guest RAM'),
    ...activatedRing(0),
    ...activatedRing(1),
    ...sends,
    ...traps('vhost'),
    step('vhost-1201', 'a/net0/vhost-net', 'sched.wake', {
      after: 'kicked',
      takes: ['ioeventfd_signal', 'idle_backend_wakeup'],
      text: 'vhost: the worker',
    }),
    step('vhost-1201', 'a/net0/vhost-net', 'eventfd.read', { takes: ['vhost_worker_iteration'] }),
    step('vhost-1201', 'a/net0/tx0', 'virtq.kicks_off'),
    step('vhost-1201', 'a/net0/tx0', 'virtq.pop', { takes: ['vhost_burst_fixed'], text: 'vhost: takes the chain' }),
    step('vhost-1201', 'a/net0/vhost-net', 'packet.copy', {
      takes: ['vhost_net_tx_per_packet', '72 * copy_per_byte_kernel'],
      text: 'vhost: guest memory to skb',
    }),
    ...throughBridge('vhost-1201'),
    step('vhost-1201', 'a/net0/tx0', 'virtq.tx_used'),
    step('vhost-1201', 'a/net0/tx0', 'virtq.used_idx'),
    step('vhost-1201', 'a/net0/tx0', 'virtq.interrupt'),
    step('vhost-1201', 'a/vcpu0', 'eventfd.signal', { text: 'vhost: the call eventfd' }),
    step('vhost-1201', 'a/vcpu0', 'kvm.irqfd', { name: 'returned', text: 'KVM: injects' }),
    step('vhost-1201', 'a/net0/tx0', 'virtq.kicks_on'),
    step('vhost-1201', 'a/net0/vhost-net', 'sched.sleep', { takes: ['notification_enable'] }),
    step('vhost-1202', 'b/net0/vhost-net', 'sched.wake', {
      after: 'queued',
      takes: ['idle_backend_wakeup'],
      text: 'vhost: the other worker, its tap is readable',
    }),
    ...entered('a', 'tx0', 'returned', 'the vCPU of a runs again'),
    step('vhost-1202', 'br0/b.net0/tap', 'tap.dequeue', { takes: ['vhost_worker_iteration', 'vhost_burst_fixed'] }),
    step('a/vcpu0', 'a/net0/tx0', 'virtq.reclaim', { takes: ['guest_napi_poll', 'guest_tx_clean'] }),
    step('a/vcpu0', 'a/net0/tx0', 'virtq.interrupts_on'),
    step('a/vcpu0', 'a/vcpu0', 'kvm.exit_hlt', { takes: ['notification_enable'] }),
    step('vhost-1202', 'b/net0/vhost-net', 'packet.copy', {
      takes: ['vhost_net_rx_per_packet', '72 * copy_per_byte_kernel'],
      text: 'vhost: skb to a buffer that the driver had posted',
    }),
    step('vhost-1202', 'b/net0/rx0', 'virtq.used'),
    step('vhost-1202', 'b/net0/rx0', 'virtq.used_idx'),
    step('vhost-1202', 'b/net0/rx0', 'virtq.interrupt'),
    step('vhost-1202', 'b/vcpu0', 'eventfd.signal', { text: 'vhost: the call eventfd' }),
    step('vhost-1202', 'b/vcpu0', 'kvm.irqfd', { name: 'delivered', text: 'KVM: injects' }),
    step('vhost-1202', 'b/net0/vhost-net', 'sched.sleep'),
    ...entered('b', 'rx0', 'delivered', 'the vCPU of b runs'),
    ...received,
  ],
  counts: [
    { text: 'VM exits that the kernel answers', of: named('kvm.exit_ept_misconfig_kernel'), expected: PING_FRAMES },
    {
      text: 'VM exits that userspace answers',
      of: named('kvm.exit_ept_misconfig_user', 'kvm.exit_io_user'),
      expected: 0,
    },
    { text: 'interrupts through irqfd', of: named('kvm.irqfd'), expected: 2 * PING_FRAMES },
    { text: 'system calls', of: named('sched.syscall'), expected: 0 },
    { text: 'copies by the host', of: named('packet.copy'), expected: 2 * PING_FRAMES },
    { text: 'events of StratoVirt', of: (e) => e.context.startsWith('stratovirt-'), expected: 0 },
  ],
  countedOver: 'three echoes (six frames)',
  journeys: [SECOND_REQUEST],
};

// ---- SV-3 -------------------------------------------------------------------------------------------------------
const request = (number: number, text?: string): Step =>
  onVcpu('a/net0/vhost-user', 'vhost.user_request', { request: number }, text);
const userRing = (index: number): Step[] => [
  request(M.VHOST_USER_SET_VRING_ADDR, `ring ${index}: where its three parts are, in StratoVirt’s address space`),
  request(M.VHOST_USER_SET_VRING_BASE, 'where to begin: what the used ring says'),
  request(M.VHOST_USER_SET_VRING_CALL, 'the eventfd that is an irqfd'),
  request(M.VHOST_USER_SET_VRING_KICK, 'an eventfd comes along: the ring is started, and enabled'),
];
const LIBRARY_LINES = '3 * cross_core_cache_line';
const sv3: Flow = {
  id: 'sv-3',
  title: 'StratoVirt vhost-user-net: activate, send and receive',
  about: [
    'The same control plane over a Unix socket, to the process of Open vSwitch with DPDK, which polls on a core of its own. StratoVirt negotiates no protocol features: no second channel, no status, no acknowledgements, and no SET_VRING_ENABLE, because a ring is then enabled as soon as it is started. It tells the sizes of all rings first, so that the other side knows how many it has to poll.',
    'Send: the request is stored, the poll finds it, the frame is fetched and forwarded, and nobody traps. Receive: the frame is put into the receive queue, and an irqfd interrupts the guest, whose driver is the kernel’s. Compare QEMU’s control plane in [VU-1](vu-1.md).',
  ],
  notes: [
    'The order of the messages is from StratoVirt’s source, not from a recording.',
    'The machine is StratoVirt’s standard VM; on a microVM the call eventfds come to StratoVirt’s event loop, as in [SV-2](sv-2.md).',
    'The destination here is another guest of the same switch; to a NIC the frame goes by the NIC’s transmit ring instead.',
    'With event idx the library leaves avail_event alone: a kernel driver rings once in 65,536 frames.',
  ],
  document: twoGuests('vhost-user', STANDARD_VM),
  actions: [PING],
  scope: (events) => [...handOver((e) => e.event === 'vhost.user_request')(events), ...secondRequest(events)],
  steps: [
    request(M.VHOST_USER_GET_FEATURES, 'StratoVirt is connected: what the device may offer'),
    onVcpu('a/net0/vhost-user', 'vhost.user_reply', { request: M.VHOST_USER_GET_FEATURES }),
    ...driver,
    request(M.VHOST_USER_SET_OWNER, 'activate() begins'),
    request(M.VHOST_USER_SET_FEATURES, 'what the driver accepted'),
    request(M.VHOST_USER_SET_MEM_TABLE, 'guest RAM, with the descriptor of its file'),
    request(M.VHOST_USER_SET_VRING_NUM, 'the sizes of all rings'),
    request(M.VHOST_USER_SET_VRING_NUM),
    ...userRing(0),
    ...userRing(1),
    ...sends,
    step('a/vcpu0', 'a/net0/tx0', 'virtq.kick_suppressed', { text: 'nobody wants to be notified: no trap' }),
    step('a/vcpu0', 'a/vcpu0', 'kvm.exit_hlt', { text: 'the guest has nothing more to do' }),
    step('pmd-c07', 'a/net0/tx0', 'virtq.pop', { text: 'the poll finds the request' }),
    step('pmd-c07', 'a/net0/vhost-user', 'packet.copy', {
      takes: ['vhost_dequeue', LIBRARY_LINES, '72 * copy_per_byte_vhost_user'],
      text: 'and fetches it into an mbuf',
    }),
    step('pmd-c07', 'a/net0/tx0', 'virtq.tx_used'),
    step('pmd-c07', 'br0/a.net0', 'dp.ingress'),
    step('pmd-c07', 'br0', 'dp.megaflow_hit', { takes: ['emc_pass'] }),
    step('pmd-c07', 'br0/b.net0', 'dp.output'),
    step('pmd-c07', 'a/net0/tx0', 'virtq.used_idx'),
    step('pmd-c07', 'a/net0/tx0', 'virtq.interrupt', { text: 'the driver wants its buffer back' }),
    step('pmd-c07', 'a/vcpu0', 'eventfd.signal'),
    step('pmd-c07', 'a/vcpu0', 'kvm.irqfd', { name: 'returned' }),
    step('pmd-c07', 'b/net0/vhost-user', 'packet.copy', {
      takes: [
        'irqfd_write',
        'emc_miss_to_dpcls',
        'dpcls_subtable_lookup',
        'vhost_burst_overhead',
        'vhost_enqueue',
        '72 * copy_per_byte_vhost_user',
      ],
      text: 'mbuf to the receive queue of the other guest',
    }),
    step('pmd-c07', 'b/net0/rx0', 'virtq.used'),
    step('pmd-c07', 'b/net0/rx0', 'virtq.used_idx'),
    step('pmd-c07', 'b/net0/rx0', 'virtq.interrupt'),
    step('pmd-c07', 'b/vcpu0', 'eventfd.signal', { text: 'the call eventfd' }),
    step('pmd-c07', 'b/vcpu0', 'kvm.irqfd', { name: 'delivered', text: 'is an irqfd: KVM injects' }),
    ...entered('a', 'tx0', 'returned', 'the vCPU of a runs again'),
    step('a/vcpu0', 'a/net0/tx0', 'virtq.reclaim', { takes: ['guest_napi_poll', 'guest_tx_clean'] }),
    step('a/vcpu0', 'a/net0/tx0', 'virtq.interrupts_on'),
    ...entered('b', 'rx0', 'delivered', 'the vCPU of b runs'),
    step('a/vcpu0', 'a/vcpu0', 'kvm.exit_hlt', { takes: ['notification_enable'] }),
    ...received,
  ],
  counts: [
    { text: 'available buffer notifications', of: named('virtq.kick'), expected: 0 },
    {
      text: 'VM exits for device accesses',
      of: named('kvm.exit_ept_misconfig_kernel', 'kvm.exit_ept_misconfig_user', 'kvm.exit_io_user'),
      expected: 0,
    },
    { text: 'interrupts through irqfd', of: named('kvm.irqfd'), expected: 2 * PING_FRAMES },
    { text: 'system calls of the VMM', of: named('sched.syscall'), expected: 0 },
    { text: 'copies by the host', of: named('packet.copy'), expected: 2 * PING_FRAMES },
    { text: 'events of StratoVirt', of: (e) => e.context.startsWith('stratovirt-'), expected: 0 },
  ],
  countedOver: 'three echoes (six frames)',
  journeys: [SECOND_REQUEST],
};

export const SV_FLOWS: readonly Flow[] = [sv1, sv2, sv3];
/** The first frame that a flow's counts look at. */
export const SV_COUNTED_FROM: Readonly<Record<string, number>> = {
  'sv-1': FIRST_REQUEST,
  'sv-2': FIRST_REQUEST,
  'sv-3': FIRST_REQUEST,
};
