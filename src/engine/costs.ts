/**
 * The cost table: what each primitive takes in virtual time. The only place with literal nanoseconds. Every entry has a
 * unit, a default for a 2.4 GHz server core, the plausible range and where the figure comes from. Other hosts are profiles of
 * this table (cost-profile.ts), and a topology document may override any cost (`costs`). `basis` says how good the figure is:
 * `published`, `derived` (computed from published figures) or `no source` (chosen, with the reason given).
 */
export interface Cost {
  readonly name: string;
  readonly unit: 'ns' | 'ns/B' | 'B';
  readonly default: number;
  readonly range: readonly [number, number];
  readonly basis: 'published' | 'derived' | 'no source';
  readonly source: string;
  readonly text: string;
  /** It is time of a CPU that goes down as the clock goes up. Not so: lines between cores, sleep states, what is no CPU's. */
  readonly scales: boolean;
}

/** The clock that the defaults are for, GHz. */
export const REFERENCE_GHZ = 2.4;

const rows: Cost[] = [];
/** `clock`: costs of CPUs scale with it unless it is `fixed`. */
function cost(name: string, value: number, unit: Cost['unit'], range: readonly [number, number], basis: Cost['basis'], source: string, text: string, clock: 'scales' | 'fixed' = 'scales'): void {
  rows.push({ name, unit, default: value, range, basis, source, text, scales: clock === 'scales' && unit.startsWith('ns') });
}

// ---- KVM
cost('vm_exit_direct', 450, 'ns', [250, 700], 'published', 'Landau et al., SplitX (WIOV 2011) §1; lkml 2020-12 SEV-ES figures', 'world switch alone, exit and entry: HLT');
cost('vm_exit_in_kernel_device', 700, 'ns', [550, 1200], 'published', 'kvm list 2023-11-01, kvm-unit-tests micro-bench (Arm), carried over to x86', 'register access answered by KVM: a kick through an ioeventfd');
cost('vm_exit_userspace', 2200, 'ns', [1500, 4000], 'published', 'linux commit ad3610919; kvm list 2023-11-01', 'register access answered in userspace, round trip');
cost('vm_exit_external_interrupt', 720, 'ns', [440, 1000], 'published', 'linux commit 0c5f81dad', 'a running vCPU leaves the guest for an interrupt and re-enters');
cost('msi_injection', 2100, 'ns', [1200, 3000], 'published', 'kvm list 2023-11-01, kvm-unit-tests micro-bench (Arm)', 'in-kernel injection to the guest handler, trap of the trigger included; without it: minus vm_exit_in_kernel_device');
cost('signal_msi_ioctl', 400, 'ns', [250, 900], 'no source', 'syscall_entry_exit plus the injection work of the caller', 'what KVM_SIGNAL_MSI costs its caller');
cost('halted_vcpu_wakeup', 3800, 'ns', [2000, 8000], 'derived', 'linux commit aca6ff29c (dynamic halt polling): 34 us a transaction against 27 where vCPUs poll, two wake-ups each; what a polling vCPU takes itself (halt_poll_wakeup) comes back on top', 'extra for a vCPU that has halted');
cost('halt_poll_wakeup', 300, 'ns', [100, 800], 'no source', 'a look of kvm_vcpu_check_block() and a VM entry: between cross_core_cache_line and vm_exit_direct', 'extra for a vCPU that has halted and whose thread still polls, in place of halted_vcpu_wakeup');
cost('ioeventfd_signal', 500, 'ns', [300, 700], 'derived', 'part of vm_exit_in_kernel_device up to eventfd_signal', 'from the register write to the eventfd');
// ---- scheduling
cost('thread_context_switch', 1100, 'ns', [800, 2000], 'published', 'ddumbying.vercel.app experiments/ctx-switch-overhead (low weight)', 'a core changes from one thread to another');
cost('idle_backend_wakeup', 4500, 'ns', [2500, 8000], 'derived', 'cloud-hypervisor commit 5c06b7f86', 'eventfd or queue to a sleeping host thread that runs');
cost('deep_idle_after', 1_000_000, 'ns', [200_000, 10_000_000], 'derived', 'as deep_idle_exit: the figures are those of 100 packets a second', 'a core that has had nothing to do for longer is in a deep sleep state', 'fixed');
cost('deep_idle_exit', 30_000, 'ns', [0, 60_000], 'derived', 'tohojo/xdp-paper (CoNEXT 2018): 20 us of forwarding at 1 Mpps, 89 us at 100 packets a second; firecracker commit da036a556: ping at 5 packets a second', 'a core leaves its deep sleep state; extra to whatever wakes the thread on it', 'fixed');
cost('notification_enable', 100, 'ns', [30, 300], 'no source', 'a write, a barrier and a read of a line that the other side owns', 'switching notifications on and looking again');
// ---- system calls
cost('syscall_entry_exit', 150, 'ns', [60, 480], 'published', 'FreeBSD review D13985; the Linux value has no source', 'entering and leaving the kernel');
cost('tap_write_syscall', 2000, 'ns', [1200, 2600], 'published', 'SIGCOMM 2021, Revisiting the Open vSwitch Dataplane Ten Years Later §3.2', 'write of one frame to a tap, host stack entry included');
cost('tap_read_syscall', 1200, 'ns', [800, 2000], 'no source', 'between recvmsg (432 ns at 3.6 GHz) plus the skb copy, and the tap write', 'read of one frame from a tap');
cost('qemu_main_loop_iteration', 5000, 'ns', [2000, 40000], 'derived', 'openvswitch/ovs commit 2109841b7 (a vswitchd loop, heavier than QEMU’s)', 'poll, dispatch and one handler; once per wake-up');
cost('stratovirt_loop_iteration', 2500, 'ns', [1000, 10000], 'no source', 'one epoll_wait and one handler, without the timers and bottom halves of qemu_main_loop_iteration', 'poll and dispatch of StratoVirt’s event loop; once per wake-up');
cost('irqfd_write', 400, 'ns', [250, 900], 'no source', 'as signal_msi_ioctl: a system call and the injection work of the caller', 'write to an eventfd that is an irqfd, by a userspace process');
cost('qemu_vm_stop', 50000, 'ns', [20000, 500000], 'no source', 'a signal to each vCPU thread and the wait until all have left KVM_RUN', 'QMP stop and cont: the vCPUs');
cost('qemu_ring_handover', 20000, 'ns', [5000, 200000], 'no source', 'a few ioctls or messages, and the grace period of an ioeventfd or irqfd', 'one ring taken from whoever serves it, or handed over');
cost('qemu_device_state', 30000, 'ns', [10000, 300000], 'no source', 'a few hundred bytes through a migration stream', 'saving or loading the state of one device');
cost('vhost_busy_poll_iteration', 100, 'ns', [20, 300], 'no source', 'a look at two rings and a socket, cpu_relax()', 'one look of a vhost worker that polls before it sleeps (poll-us)');
cost('vhost_worker_iteration', 800, 'ns', [400, 2000], 'no source', 'work list, signalling and weight check', 'once per wake-up of a vhost worker');
// ---- host kernel
cost(
  'vhost_net_tx_per_packet',
  590,
  'ns',
  [480, 700],
  'derived',
  'linux commit 761876c857: about 1.7 Mpps of small frames to the host stack’s entry, where they are dropped. 926 ns (linux commit 5503fcecd, 1.08 Mpps) hold a forwarder and the transmission on a NIC as well, which are charged beside it',
  'descriptor, copy from the guest, skb, tap, host stack entry, without bytes',
);
cost('vhost_net_rx_per_packet', 670, 'ns', [330, 770], 'derived', 'linux commit 1576d9860', 'tap dequeue, copy to the guest, used ring, without bytes');
cost(
  'vhost_net_further_chain',
  190,
  'ns',
  [100, 220],
  'derived',
  'kvm list 2019 msg179646 (vhost: accelerate metadata access): 23 to 24 % more frames a second where rings are read without checks, of vhost_net_tx_per_packet with its one chain',
  'each receive buffer of a frame after the first (mergeable buffers): available ring, descriptor, used ring',
);
cost('vhost_burst_fixed', 200, 'ns', [100, 400], 'no source', 'index read, used flush and signalling of one batch', 'per batch of a vhost worker');
cost('napi_rx_per_packet', 260, 'ns', [150, 260], 'published', 'xdp-project cpumap02-optimizations (175 ns at 3.6 GHz), scaled to 2.4 GHz', 'host NIC driver, skb, GRO');
cost('ovs_kernel_per_packet', 440, 'ns', [240, 540], 'derived', 'SIGCOMM 2021, Revisiting the Open vSwitch Dataplane Ten Years Later, fig. 8(a): 700 ns (500 to 800) port to port, receive included, less napi_rx_per_packet', 'key extract, flow hit, actions, transmission');
cost('linux_bridge_per_packet', 600, 'ns', [350, 1100], 'derived', 'xdp-paper (CoNEXT 2018): 575 ns to receive, route and send at 3.6 GHz, 862 ns at 2.4 GHz, less napi_rx_per_packet; a bridge looks into its FDB twice in place of a route', 'receive handler, FDB update and lookup, output of a Linux bridge');
cost('ovs_kernel_mask_lookup', 68, 'ns', [40, 90], 'derived', 'linux merge c219a1662', 'each further mask probed');
cost('upcall', 60000, 'ns', [20000, 250000], 'published', 'openvswitch/ovs commits 0a740f482 and 2e97b8419', 'ofproto translation and flow installation of one missed frame');
cost('revalidate_flow', 2000, 'ns', [500, 10000], 'no source', 'a translation without learning and installing, and a share of the dump', 'a datapath flow that revalidators translate again');
cost('revalidate_dump', 200, 'ns', [100, 1000], 'no source', 'one flow out of a dump of 50', 'a datapath flow whose statistics revalidators look at');
cost('upcall_duplicate', 5000, 'ns', [2000, 20000], 'no source', 'a translation without the flow installation and without waking up', 'an upcall whose flow another one of its batch installs');
cost('netdev_upcall', 60000, 'ns', [20000, 250000], 'derived', 'as upcall; the netdev datapath does it on the PMD itself', 'the same in the netdev datapath');
cost('copy_per_byte_kernel', 0.12, 'ns/B', [0.06, 0.3], 'no source', 'bounded from above by 3 % of a core per Gb/s of TSO traffic', 'copy_from_user and copy_to_iter');
// ---- DPDK and the netdev datapath
cost('pmd_idle_iteration', 330, 'ns', [125, 625], 'derived', 'openvswitch/ovs commit 79f368756 (790 cycles)', 'one poll of all queues that finds nothing');
cost('emc_pass', 24, 'ns', [20, 60], 'derived', 'openvswitch/ovs commit d262ac2c6 (83 ns port to port) minus NIC receive and transmit', 'miniflow extract, EMC hit, actions');
cost('l2_miss', 13, 'ns', [10, 20], 'published', 'anandtech.com 2017, Sizing up servers (Skylake-SP, EPYC): Xeon E5-2699 v4, 38 to 51 cycles to the third level and 12 to 15 to the second; the difference at 2.4 GHz', 'a cache line that a core has used before, and that its second-level cache does not hold any more');
cost('l2_cache', 262144, 'B', [262144, 2097152], 'published', 'Intel 64 and IA-32 Architectures Optimization Reference Manual: 256 KiB for each core from Nehalem to Broadwell', 'second-level cache of a core: holds what the core has used last');
cost('emc_miss_to_dpcls', 102, 'ns', [70, 130], 'derived', 'openvswitch/ovs commit d262ac2c6', 'extra when the first subtable must be asked');
cost('smc_lookup', 40, 'ns', [20, 60], 'no source', 'between emc_pass and emc_miss_to_dpcls: one bucket, one comparison with a masked flow', 'extra when the signature match cache is asked');
cost('dpcls_subtable_lookup', 73, 'ns', [50, 90], 'derived', 'openvswitch/ovs commit 3453b4d62', 'each further subtable');
cost(
  'vhost_dequeue',
  67,
  'ns',
  [50, 130],
  'derived',
  'CSIT 17.04, VPP on one core: 323 ns through a guest less 93 ns port to port are 230; less a second pass of the graph without NICs (93 less dpdk_nic_rx and dpdk_nic_tx), the enqueue of 70 ns, the copy of 64 bytes, a share of the call, and three cross_core_cache_line, which are all in the difference',
  'one frame out of a guest, without bytes and without the lines that the guest wrote',
);
cost('vhost_enqueue', 62, 'ns', [45, 120], 'derived', 'DPDK commit e7ef68856: 100 cycles saved are 60 % of the enqueue of 64 bytes, so 167 cycles, its remote stores included; less their copy and a share of the call', 'one frame into a guest, without bytes; stores into lines of the guest are in it');
cost('vhost_burst_overhead', 60, 'ns', [30, 150], 'derived', 'DPDK commits 096ffd811 and 63b113afa', 'per rte_vhost burst call');
cost('copy_per_byte_vhost_user', 0.08, 'ns/B', [0.04, 0.2], 'derived', 'DPDK commit b0a985d1f', 'rte_memcpy between guest and mbuf');
cost('cross_core_cache_line', 17, 'ns', [12, 60], 'derived', 'xdp-project cpumap02-optimizations: 33.1 ns for two functions that read a line of another core first each, at most half of it a line', 'a line last written by another core: three for each frame that the vhost library reads out of a guest', 'fixed');
cost('dpdk_nic_rx', 34, 'ns', [22, 52], 'published', 'xdp-paper (CoNEXT 2018), benchmarks: 22.9 ns at 3.6 GHz, scaled to 2.4 GHz', 'one frame out of a NIC receive ring');
cost('dpdk_nic_tx', 25, 'ns', [15, 40], 'no source', 'taken like receive', 'one frame into a NIC transmit ring');
cost('virtio_pmd_per_packet', 45, 'ns', [25, 80], 'no source', 'a guest forwarder is not the bottleneck of the published PVP points', 'virtio PMD, one frame each way');
cost('virtio_pmd_burst', 60, 'ns', [30, 150], 'no source', 'as vhost_burst_overhead', 'virtio PMD, per burst');
cost('virtio_pmd_poll', 50, 'ns', [20, 100], 'no source', 'a loop over one receive queue', 'one poll of the guest that finds nothing');
// ---- guest kernel
cost('guest_udp_send', 600, 'ns', [400, 1500], 'derived', 'syscall_entry_exit and half of what Linux takes to receive, route and send (862 ns at 2.4 GHz, xdp-paper), rounded', 'sendto of one datagram down to the available ring, without bytes');
cost('guest_pktgen_send', 200, 'ns', [100, 400], 'no source', 'driver and descriptor only, the skb is reused', 'one frame of pktgen with xmit_more');
cost('guest_napi_poll', 600, 'ns', [300, 1000], 'no source', 'interrupt handler, softirq entry and napi_complete', 'per NAPI poll');
cost('guest_rx_per_packet', 450, 'ns', [300, 800], 'derived', 'napi_rx_per_packet plus a part of udp_socket_delivery (300 ns)', 'driver, skb, IP stack and socket of the guest');
cost('guest_recvmsg', 650, 'ns', [450, 1050], 'published', 'xdp-project cpumap02-optimizations (432 ns at 3.6 GHz), scaled to 2.4 GHz', 'a program of the guest reads one message: recvmsg, socket dequeue, a short copy');
cost('guest_rx_extra_buffer', 100, 'ns', [50, 200], 'no source', 'page fragment added to an skb, buffer taken from the ring', 'each receive buffer of a frame after the first (mergeable buffers)');
cost(
  'guest_xdp_tx',
  213,
  'ns',
  [120, 300],
  'derived',
  'SIGCOMM 2021, Revisiting the Open vSwitch Dataplane Ten Years Later, Table 5, task D: 4.7 Mpps on one core at 2.4 GHz. It was the driver of a physical NIC',
  'an XDP program of the guest’s driver sends a frame back: out of the ring, addresses swapped, into a transmit ring, what was sent freed',
);
cost('guest_tx_clean', 30, 'ns', [20, 60], 'published', 'xdp-project kfree_skb_list01 (30.5 ns at 3.6 GHz for allocation and free of one skb)', 'freeing one transmitted skb');
cost('gso_segment', 250, 'ns', [100, 500], 'no source', 'allocation and headers of one skb in skb_segment(), between guest_tx_clean and napi_rx_per_packet', 'cutting one segment from a GSO packet in software, without its checksum');
cost('checksum_per_byte', 0.32, 'ns/B', [0.1, 0.6], 'derived', 'lkl/linux PR 183; SIGCOMM 2021 fig. 7(b)', 'software checksum, one pass');
// ---- vIOMMU
cost('dma_map', 150, 'ns', [60, 400], 'no source', 'IOVA from a per-CPU cache, a walk of three levels and one store', 'guest kernel maps a buffer: dma_map_page() without its invalidation');
cost('dma_unmap', 120, 'ns', [50, 350], 'no source', 'a walk of three levels, one store, the IOVA back into the cache', 'guest kernel unmaps a buffer, without its invalidation');
cost('qi_submit', 200, 'ns', [100, 500], 'no source', 'two descriptors written under a lock, and the poll of the status word', 'qi_submit_sync() without the exit of the tail register');
cost('viommu_descriptor', 250, 'ns', [100, 800], 'no source', 'a descriptor read from guest memory and a lookup in a hash table', 'QEMU executes one invalidation descriptor, without telling back-ends');
cost('viommu_walk', 300, 'ns', [150, 1000], 'no source', 'three reads of guest memory through address_space_read()', 'QEMU walks the second-level tables for one address');
cost('iotlb_hit', 15, 'ns', [5, 40], 'derived', 'DPDK commit e7cb7fdf5: 14 us a packet where each translation passes about 2047 stale entries, 3 to 7 ns an entry; a lookup passes a few', 'a back-end translates one address of a chain that its IOTLB holds');
cost('iotlb_message_kernel', 600, 'ns', [300, 1500], 'no source', 'syscall_entry_exit, the locks of the rings and the tree', 'one read() or write() of an IOTLB message on the vhost descriptor');
cost('iotlb_message_user', 6000, 'ns', [3000, 20000], 'derived', 'two idle_backend_wakeup less the overlap: a message on the socket and its acknowledgement', 'one vhost-user IOTLB message with its reply');
// ---- wire
cost('ethernet_overhead', 20, 'B', [20, 20], 'published', 'IEEE 802.3: preamble 8 and gap 12', 'per frame on the wire');

export const COSTS: readonly Cost[] = rows;
export const COST_NAMES: ReadonlySet<string> = new Set(rows.map((c) => c.name));

export type CostTable = Readonly<Record<string, number>>;

/** The table with a profile's costs and a topology's overrides; names must be known (the document's validation sees to it). */
export function costTable(overrides: CostTable, profile: CostTable = {}): CostTable {
  return { ...Object.fromEntries(rows.map((c) => [c.name, c.default])), ...profile, ...overrides };
}

/** One cost; throws where our own code asks for a name that the table does not have. */
export function costOf(table: CostTable, name: string): number {
  const value = table[name];
  if (value === undefined) throw new Error(`the cost table has no entry ${name}`);
  return value;
}
