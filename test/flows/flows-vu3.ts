/**
 * Flow VU-3, translations behind a vIOMMU: a miss that travels over the second channel and its answer over the first, and a
 * mapping that is taken away and waited for. Read flow.ts first.
 */
import type { Flow, FlowEvent, Step } from './flow.ts';
import { since, windowOf } from './scopes.ts';

const PING = { traffic: { kind: 'ping', from: 'a/net0', to: 'b/net0', count: 3 } } as const;
const VHOST_USER_BACKEND_IOTLB_MSG = 1;
const VHOST_USER_IOTLB_MSG = 22;
const SYS_write = 1;

function step(
  context: string,
  place: string,
  event: string,
  more: Omit<Step, 'context' | 'place' | 'event'> = {},
): Step {
  return { context, place, event, ...more };
}
const named =
  (...names: string[]) =>
  (e: FlowEvent): boolean =>
    names.includes(e.event);

// ---- a miss -----------------------------------------------------------------------------------------------------
/** Two DPDK guests without hugepages: each page of 4 KiB is a translation of its own. */
const noHugepages = {
  hosts: [
    {
      name: 'h1',
      bridges: [{ name: 'br0', datapath: 'netdev' }],
      guests: ['a', 'b'].map((name, i) => ({
        name,
        iommu: { mode: 'strict' },
        dpdk: { hugepages: '4KiB' },
        nics: [
          {
            name: 'net0',
            bridge: 'br0',
            backend: 'vhost-user',
            driver: 'virtio-pmd',
            addresses: [`10.0.0.${i + 1}/24`],
          },
        ],
      })),
    },
  ],
};
/** ARP that is asked once more: a frame of a that meets no other page that is new. */
const ASKED_AGAIN = 6;
const translation = named(
  'virtq.avail',
  'iotlb.miss',
  'vhost.backend_request',
  'sched.wake',
  'vhost.user_request',
  'vhost.user_reply',
  'iotlb.update',
  'virtq.pop',
  'packet.copy',
);

const vu3: Flow = {
  id: 'vu-3',
  title: 'Translations: a miss and its answer',
  about: [
    'Behind a vIOMMU the addresses in rings and descriptors are I/O virtual addresses. The back-end looks each one up in its own table, the device IOTLB. What is not there it asks for on the second channel (`VHOST_USER_BACKEND_IOTLB_MSG`, type miss); QEMU walks the page tables of the vIOMMU (I/O virtual to guest-physical), knows where guest memory is mapped (guest-physical to its own address), and answers on the first channel (`VHOST_USER_IOTLB_MSG`, type update). The back-end turns QEMU’s address into one of its own by the mmap offset of the region, and goes on with the chain that it had left alone.',
    '`GET /v1/topologies/{t}/guests/{g}/nics/{n}/translate?iova=…` answers the same steps for any address.',
  ],
  notes: [
    'The guests here have no hugepages (`--no-huge`), so that each page of 4 KiB misses once. With the default, pages of 2 MiB, QEMU’s first update covers rings and buffers, and nothing ever misses.',
    'A miss in a receive ring costs the frame: DPDK’s library places nothing, and Open vSwitch drops what it could not place. In this run the first frames each way end so, and ARP is asked again.',
  ],
  document: noHugepages,
  actions: [PING],
  scope: (events) => windowOf(events, ASKED_AGAIN).filter(translation),
  steps: [
    step('a/vcpu0', 'a/net0/tx0', 'virtq.avail', {
      text: 'the driver publishes a chain: its address is an I/O virtual one',
    }),
    step('pmd-c07', 'a/net0/vhost-user', 'iotlb.miss', { text: 'the PMD finds no translation for it' }),
    step('pmd-c07', 'a/net0/vhost-user', 'vhost.backend_request', {
      is: { request: VHOST_USER_BACKEND_IOTLB_MSG },
      name: 'asked',
      text: 'and asks QEMU, on the second channel. It polls its other queues meanwhile',
    }),
    step('qemu-a', 'a/qemu', 'sched.wake', {
      after: 'asked',
      takes: ['idle_backend_wakeup', 'deep_idle_exit'],
      text: 'QEMU’s main loop',
    }),
    step('qemu-a', 'a/net0/vhost-user', 'vhost.user_request', {
      is: { request: VHOST_USER_IOTLB_MSG },
      text: 'the answer, on the first channel: page, QEMU’s address of it, permissions',
    }),
    step('qemu-a', 'a/net0/vhost-user', 'vhost.user_reply', { is: { request: VHOST_USER_IOTLB_MSG } }),
    step('qemu-a', 'a/net0/vhost-user', 'iotlb.update', { is: { bytes: 4096 }, text: 'the back-end has the page' }),
    step('pmd-c07', 'a/net0/tx0', 'virtq.pop', { text: 'the next poll takes the chain' }),
    step('pmd-c07', 'a/net0/vhost-user', 'packet.copy'),
    step('pmd-c07', 'b/net0/vhost-user', 'packet.copy', { text: 'b’s buffer is known since a frame was lost for it' }),
  ],
  counts: [
    { text: 'pages that missed', of: named('iotlb.miss'), expected: 9 },
    { text: 'answers', of: named('iotlb.update'), expected: 9 },
    { text: 'frames lost for a page that was not there yet', of: named('vhost_user.iotlb_miss'), expected: 4 },
  ],
  countedOver: 'ARP and three echoes',
  journeys: [],
};

// ---- an invalidation --------------------------------------------------------------------------------------------
/** The kernel maps each buffer for itself, and in strict mode takes each mapping back at once. */
const strictKernel = {
  hosts: [
    {
      name: 'h1',
      bridges: [{ name: 'br0', datapath: 'system' }],
      guests: ['a', 'b'].map((name, i) => ({
        name,
        iommu: { mode: 'strict' },
        nics: [{ name: 'net0', bridge: 'br0', backend: 'vhost-net', addresses: [`10.0.0.${i + 1}/24`] }],
      })),
    },
  ],
};
const invalidation = named(
  'iommu.unmap',
  'kvm.exit_ept_misconfig_user',
  'iommu.invalidate',
  'sched.syscall',
  'iotlb.invalidate',
  'iommu.wait_done',
);
const SECOND_REQUEST = 6;

const vu3unmap: Flow = {
  id: 'vu-3-unmap',
  title: 'Translations: a mapping is taken away',
  about: [
    'The kernel’s DMA API maps each buffer before the device may touch it, and unmaps it when the device is done. In strict mode (`iommu.strict=1`) every unmap is followed at once by an invalidation, and the driver waits until it is done: only then the buffer is nobody else’s.',
    'The guest writes descriptors into the invalidation queue in its memory, and the tail register of the vIOMMU: an exit to QEMU for each. The first invalidates the vIOMMU’s own cache, the second the device’s IOTLB, which is in the kernel’s vhost worker: QEMU writes a message to the vhost descriptor, and vhost lets go of the page when the worker has left its batch. With `"iommu": {"mode": "lazy"}` 256 buffers share one such round.',
  ],
  notes: [
    'The exits happen within the driver’s poll; the recording shows them at the time at which the slice began, and the vCPU pays for them afterwards.',
  ],
  document: strictKernel,
  actions: [PING],
  scope: (events) => {
    const later = since(events, SECOND_REQUEST).filter((e) => e.context === 'a/vcpu0' && invalidation(e));
    const first = later.findIndex(named('iommu.unmap'));
    const length = later.slice(first + 1).findIndex(named('iommu.unmap'));
    return later.slice(first, length < 0 ? undefined : first + 1 + length);
  },
  steps: [
    step('a/vcpu0', 'a/net0', 'iommu.unmap', {
      text: 'the device is done with a buffer: its page table entry is cleared',
    }),
    step('a/vcpu0', 'a/vcpu0', 'kvm.exit_ept_misconfig_user', {
      text: 'IOTLB invalidation and wait descriptor are in the queue; the write of the tail register leaves the guest',
    }),
    step('a/vcpu0', 'a/qemu', 'iommu.invalidate', { text: 'QEMU forgets the page' }),
    step('a/vcpu0', 'a/qemu', 'iommu.wait_done', { text: 'and writes the status word that the guest waits for' }),
    step('a/vcpu0', 'a/vcpu0', 'kvm.exit_ept_misconfig_user', { text: 'the same for the device’s own table (ATS)' }),
    step('a/vcpu0', 'a/qemu', 'iommu.invalidate'),
    step('a/vcpu0', 'a/net0/vhost-net', 'sched.syscall', {
      is: { number: SYS_write },
      text: 'QEMU writes VHOST_IOTLB_INVALIDATE to the vhost descriptor',
    }),
    step('a/vcpu0', 'a/net0/vhost-net', 'iotlb.invalidate', {
      is: { pages: 1 },
      text: 'vhost has no translation any more',
    }),
    step('a/vcpu0', 'a/qemu', 'iommu.wait_done'),
  ],
  counts: [
    { text: 'buffers mapped: those that were sent', of: named('iommu.map'), expected: 4 },
    { text: 'buffers unmapped: those that were sent or received', of: named('iommu.unmap'), expected: 8 },
    {
      text: 'exits to QEMU for that: one for each map, two for each unmap',
      of: named('kvm.exit_ept_misconfig_user'),
      expected: 20,
    },
    { text: 'addresses that missed, each buffer once', of: named('iotlb.miss'), expected: 8 },
  ],
  countedOver: 'the second and the third echo, in both guests',
  journeys: [],
};

/** The first frame that a flow's counts look at. */
export const VU3_COUNTED_FROM: Readonly<Record<string, number>> = { 'vu-3-unmap': SECOND_REQUEST };
export const VU3_FLOWS: readonly Flow[] = [vu3, vu3unmap];
