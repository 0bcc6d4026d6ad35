/**
 * The control plane of the vhost-user article: a DPDK guest behind a vIOMMU, its VFIO, and the switch at the other end of the
 * socket. Read flow.ts first.
 */
import { EAL_PHASES, type EalPhase } from '../../src/machine/dpdk/eal.ts';
import { KVM_IOEVENTFD } from '../../src/machine/wire/kvm.ts';
import * as V from '../../src/machine/wire/vfio.ts';
import * as M from '../../src/machine/wire/vhost-user-requests.ts';
import type { Flow, FlowEvent, Step } from './flow.ts';

function guest(name: string, address: string): object {
  const net0 = { name: 'net0', backend: 'vhost-user', driver: 'virtio-pmd', addresses: [address] };
  return { name, iommu: { mode: 'strict' }, dpdk: { hugepages: '2MiB', mempool: 3000 }, nics: [net0] };
}
const TOLD =
  /^(vhost\.(socket_(listen|connect)|user_request|user_reply)|dpdk\.|vfio\.(open|ioctl$|dma)|virtio\.(status|queue_enable)|iommu\.invalidate|iotlb|virtq\.kicks_off)/;
/** Of a's boot: what its program, its kernel's IOMMU driver and QEMU do for the device, and what the switch's PMD answers. */
function told(events: readonly FlowEvent[]): FlowEvent[] {
  const own = events.filter((e) => {
    const here = e.context === 'a/vcpu0' || (e.context.startsWith('pmd-') && e.place.startsWith('a/'));
    const doorbell = e.event === 'kvm.ioctl' && e['ioctl'] === KVM_IOEVENTFD;
    return here && (TOLD.test(e.event) || doorbell);
  });
  const program = own.findIndex((e) => e.event === 'dpdk.eal');
  const last = own.findLastIndex((e) => e.event === 'dpdk.lcore');
  // the kernel's IOMMU driver starts before, which is its own story
  return own.slice(0, last + 1).filter((e, i) => i > program || e.event !== 'iommu.invalidate');
}

function step(
  context: string,
  place: string,
  event: string,
  more: Omit<Step, 'context' | 'place' | 'event'> = {},
): Step {
  return { context, place, event, ...more };
}
const textOf = (text: string | undefined): { text?: string } => (text === undefined ? {} : { text });
const socket = (event: string, text: string): Step => step('a/vcpu0', 'a/net0/vhost-user', event, { text });
const request = (number: number, text?: string): Step =>
  step('a/vcpu0', 'a/net0/vhost-user', 'vhost.user_request', { is: { request: number }, ...textOf(text) });
const reply = (number: number): Step =>
  step('a/vcpu0', 'a/net0/vhost-user', 'vhost.user_reply', { is: { request: number } });
const asked = (number: number, text?: string): Step[] => [request(number, text), reply(number)];
const enabled = (text: string): Step[] => [
  request(M.VHOST_USER_SET_VRING_ENABLE, text),
  request(M.VHOST_USER_SET_VRING_ENABLE, 'both rings'),
];
const ring = (index: number): Step[] => [
  request(M.VHOST_USER_SET_VRING_NUM, `ring ${index}: size`),
  request(M.VHOST_USER_SET_VRING_BASE, 'where to begin'),
  request(M.VHOST_USER_SET_VRING_ADDR, 'where its three parts are: I/O virtual addresses, as the driver wrote them'),
  request(M.VHOST_USER_SET_VRING_KICK, 'an eventfd comes along: the ring is started'),
  request(M.VHOST_USER_SET_VRING_CALL, 'and one for interrupts, past QEMU'),
];
const status = (value: number, text: string): Step =>
  step('a/vcpu0', 'a/net0', 'virtio.status', { is: { acceptedStatus: value }, text });
const enable = (queue: number, text?: string): Step =>
  step('a/vcpu0', 'a/net0', 'virtio.queue_enable', { is: { queue }, ...textOf(text) });
const doorbell = (text: string): Step =>
  step('a/vcpu0', 'a/vcpu0', 'kvm.ioctl', { is: { ioctl: KVM_IOEVENTFD }, text });
const eal = (phase: EalPhase, text?: string): Step =>
  step('a/vcpu0', 'a/vcpu0', 'dpdk.eal', { is: { phase: EAL_PHASES.indexOf(phase) }, ...textOf(text) });
const file = (kind: number, text: string): Step =>
  step('a/vcpu0', 'a/vcpu0', 'vfio.open', { is: { file: kind }, text });
const vfio = (number: number, argument: number, text?: string, takes?: readonly string[]): Step =>
  step('a/vcpu0', 'a/vcpu0', 'vfio.ioctl', {
    is: { ioctl: number, argument },
    ...textOf(text),
    ...(takes === undefined ? {} : { takes }),
  });
const SYSCALL = ['syscall_entry_exit'] as const;
const region = (index: number, text?: string): Step => vfio(V.VFIO_DEVICE_GET_REGION_INFO, index, text, SYSCALL);
/** A hugepage, as 512 pages of 4 KiB from `page` on. */
const mapped = (page: number, text: string): Step[] => [
  vfio(V.VFIO_IOMMU_MAP_DMA, page, text, SYSCALL),
  step('a/vcpu0', 'a/net0', 'vfio.dma', {
    is: { iova: page, bytes: 512 },
    text: 'one entry of the tables, a page of 2 MiB',
    takes: ['dma_map'],
  }),
  step('a/vcpu0', 'a/qemu', 'iommu.invalidate', {
    is: { iova: page },
    text: 'caching mode: QEMU has to be told of new entries, an exit to userspace',
  }),
];
const grown = (page: number, text: string): Step =>
  step('a/vcpu0', 'a/vcpu0', 'dpdk.memory', { is: { address: page }, text });

export const vu1: Flow = {
  id: 'vu-1',
  title: 'vhost-user, virtio-pmd, vIOMMU: control plane',
  about: [
    'The rings are served by another process: Open vSwitch with DPDK. QEMU and the switch speak over a Unix socket in messages that say the same as the ioctls of vhost-net ([DD-4](dd-4.md)), because there is no common kernel to ask; file descriptors of guest memory and eventfds travel with them. Over a second socket pair, one end of which QEMU passes, the switch can ask QEMU: for translations.',
    'In the guest a DPDK program drives the device, with VFIO between them: (5a) group and container, the device’s regions and interrupts; (5c) the hugepages of the program’s heap, in which the rings (5b) lie, are mapped in the vIOMMU; (5d) features are negotiated, and addresses of rings are I/O virtual ones; (5e) the pool of mbufs takes more hugepages, each mapped in the same way.',
  ],
  notes: [
    'The article has the switch create the socket and QEMU connect; here, as in the recorded runs, QEMU listens and the switch connects, so that the switch can be restarted without the guests.',
    'Of the other channel nothing is seen: what the rings need QEMU sends at once, and hugepages are translated with one answer each when the first buffer in them is met ([VU-2](vu-2.md)).',
    'The order and the bytes of the messages are those recorded between QEMU 7.2 and DPDK 22.11; VFIO’s calls are in the order of DPDK 22.11’s sources. Physical addresses are I/O addresses: 39 bits of QEMU’s intel-iommu are fewer than a process has.',
    'A polling driver has no vectors: no call eventfd becomes an irqfd.',
  ],
  document: {
    hosts: [
      {
        name: 'h1',
        bridges: [{ name: 'br0', datapath: 'netdev' }],
        guests: [guest('a', '10.0.0.1/24'), guest('b', '10.0.0.2/24')],
      },
    ],
  },
  actions: [],
  scope: told,
  steps: [
    socket('vhost.socket_listen', '1: the socket is there'),
    socket('vhost.socket_connect', '2: the other side connects'),
    ...asked(M.VHOST_USER_GET_FEATURES, 'does it know protocol features?'),
    ...asked(M.VHOST_USER_GET_PROTOCOL_FEATURES),
    request(M.VHOST_USER_SET_PROTOCOL_FEATURES, 'MQ, REPLY_ACK, BACKEND_REQ, STATUS …'),
    ...asked(M.VHOST_USER_GET_QUEUE_NUM),
    ...asked(M.VHOST_USER_SET_BACKEND_REQ_FD, '2, 3: one end of the second channel'),
    request(M.VHOST_USER_SET_OWNER),
    ...asked(M.VHOST_USER_GET_FEATURES, 'limits what the device may offer'),
    request(M.VHOST_USER_SET_VRING_CALL),
    request(M.VHOST_USER_SET_VRING_ERR),
    request(M.VHOST_USER_SET_VRING_CALL),
    request(M.VHOST_USER_SET_VRING_ERR),
    ...enabled('not started yet: enabling them is without effect'),
    eal('rte_eal_init', '4, 5: the guest has booted, the program starts'),
    eal('rte_vfio_enable'),
    file(0, 'the container, /dev/vfio/vfio'),
    vfio(V.VFIO_GET_API_VERSION, 0, undefined, SYSCALL),
    vfio(V.VFIO_CHECK_EXTENSION, V.VFIO_TYPE1_IOMMU, 'type 1: yes', SYSCALL),
    vfio(V.VFIO_CHECK_EXTENSION, V.VFIO_SPAPR_TCE_v2_IOMMU, 'that of POWER: no', SYSCALL),
    vfio(V.VFIO_CHECK_EXTENSION, V.VFIO_NOIOMMU_IOMMU, 'without an IOMMU: not allowed here', SYSCALL),
    eal('rte_eal_memory_init'),
    grown(512, 'the heap begins with one hugepage'),
    eal('rte_bus_probe'),
    file(1, '4, 5a: the IOMMU group of the device'),
    vfio(V.VFIO_GROUP_GET_STATUS, 0, 'viable: all its devices are VFIO’s', SYSCALL),
    vfio(V.VFIO_GROUP_SET_CONTAINER, 3, 'into the container', SYSCALL),
    vfio(V.VFIO_SET_IOMMU, V.VFIO_TYPE1_IOMMU, 'and the container takes the IOMMU', SYSCALL),
    ...mapped(512, '5c: what the heap has, rings will lie there'),
    vfio(V.VFIO_GROUP_GET_DEVICE_FD, 0, '5a: the device, by its PCI address'),
    file(2, 'a descriptor of it'),
    vfio(V.VFIO_DEVICE_GET_INFO, 0, 'nine regions, five kinds of interrupts', SYSCALL),
    region(1, 'the BAR with the MSI-X table'),
    region(1, 'again, with room for its capability: it may be mapped'),
    region(0),
    region(1),
    region(1),
    region(2),
    region(3),
    region(4, 'the modern registers: 16 KiB, mapped into the program'),
    region(5),
    vfio(V.VFIO_DEVICE_GET_IRQ_INFO, V.VFIO_PCI_MSIX_IRQ_INDEX, 'MSI-X, by eventfds', SYSCALL),
    vfio(V.VFIO_DEVICE_RESET, 0, 'it cannot be reset by itself: -EINVAL, which DPDK takes', SYSCALL),
    vfio(V.VFIO_DEVICE_SET_IRQS, V.VFIO_PCI_REQ_IRQ_INDEX, 'an eventfd for its removal', SYSCALL),
    status(0, '5d: the PMD resets the device'),
    ...enabled('QEMU says so whenever the guest’s choice may have changed'),
    status(1, 'ACKNOWLEDGE'),
    status(3, 'DRIVER'),
    ...enabled('features, lower word'),
    ...enabled('features, upper word: VIRTIO_F_ACCESS_PLATFORM is among them'),
    status(0xb, 'FEATURES_OK'),
    enable(0, '5b: a ring of the heap, by its I/O virtual addresses'),
    enable(1),
    enable(2, 'the control queue'),
    status(0xf, 'DRIVER_OK: the hand-over begins'),
    doorbell('kick eventfd of the receive queue'),
    doorbell('kick eventfd of the transmit queue'),
    ...enabled('once more'),
    request(M.VHOST_USER_SET_FEATURES),
    ...asked(M.VHOST_USER_GET_STATUS),
    request(M.VHOST_USER_SET_STATUS, 'ACKNOWLEDGE, DRIVER, FEATURES_OK'),
    ...asked(M.VHOST_USER_SET_MEM_TABLE, 'a file descriptor for each region; QEMU waits for the answer'),
    ...ring(0),
    ...ring(1),
    ...asked(M.VHOST_USER_GET_STATUS),
    request(M.VHOST_USER_SET_STATUS, 'DRIVER_OK'),
    ...asked(M.VHOST_USER_IOTLB_MSG, 'the translation of the receive ring, before it is asked for'),
    step('a/vcpu0', 'a/net0/vhost-user', 'iotlb.update', {
      is: { iova: 512, bytes: 0x20_0000 },
      text: 'a whole hugepage',
    }),
    ...asked(M.VHOST_USER_IOTLB_MSG, 'and of the transmit ring, which lies in the same'),
    step('a/vcpu0', 'a/net0/vhost-user', 'iotlb.update', { is: { iova: 512, bytes: 0x20_0000 } }),
    step('pmd-c07', 'a/net0/tx0', 'virtq.kicks_off', { text: 'the switch polls: no kicks, please' }),
    step('pmd-c07', 'a/net0/rx0', 'virtq.kicks_off'),
    eal('rte_pktmbuf_pool_create', '5e: the packet memory'),
    grown(1024, 'hugepages for it'),
    ...mapped(1024, 'mapped in the same way'),
    grown(1536, 'and one more'),
    ...mapped(1536, 'each by a call of its own'),
    step('a/vcpu0', 'a/vcpu0', 'dpdk.mempool', { is: { mbufs: 3000 } }),
    eal('rte_eth_dev_start', 'the receive ring is filled'),
    eal('rte_eal_mp_remote_launch'),
    step('a/vcpu0', 'a/vcpu0', 'dpdk.lcore', { text: 'the lcore, pinned to its vCPU, begins to poll' }),
  ],
  counts: [],
  journeys: [],
};
