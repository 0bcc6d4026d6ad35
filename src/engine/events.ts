/**
 * The event table: every kind of thing that a run records, one row each.
 *
 * An event is five columns: time (ns since the run's start, f64), meta (kind, place, context), frame (low 32 bits of a
 * frame id, 0 = none), a and b (u32, meaning per kind). Everything that users see is derived from these events, and the
 * counters (count of events and sum of `a` per place and kind) are folded from them. See event-ring.ts for the memory
 * layout and catalog.ts for what a place and a context are.
 */

/** What a kind is for its frame: where it begins, where it is seen, where it ends. */
export type FrameRole =
  /** The frame enters the world here: counts as injected. */
  | 'born'
  /** A new frame that is a copy of frame `a`: by flooding, counts as replicated; cut from it; or sent again, counts as duplicated. */
  | 'cloned'
  /** The frame reached an end that wanted it. */
  | 'delivered'
  /** The frame was taken by a protocol of the stack (ARP, ICMP echo request). */
  | 'consumed'
  /** The frame was dropped; the kind's name is the reason. */
  | 'dropped'
  /** The frame ends here because its bytes live on in other frames: cut into segments, or merged into another. */
  | 'replaced'
  | 'none';

export interface EventKind {
  readonly id: number;
  /** Dotted name: family, then what happened. Stable: users filter by it. */
  readonly name: string;
  readonly role: FrameRole;
  /**
   * Set when the event is a sighting of the frame at a hop, i.e. a row in a capture. Direction is as the pcapng flag says
   * it, relative to the device that owns the hop: `out` leaves it, `in` enters it.
   */
  readonly hop: 'in' | 'out' | null;
  /** What columns `a` and `b` hold. Empty where unused. */
  readonly a: string;
  readonly b: string;
  readonly text: string;
}

const rows: EventKind[] = [];
function kind(id: number, name: string, text: string, options: { role?: FrameRole; hop?: 'in' | 'out'; a?: string; b?: string } = {}): number {
  if (rows.some((k) => k.id === id || k.name === name)) throw new Error(`event kind ${id} ${name} is declared twice`);
  rows.push({
    id,
    name,
    text,
    role: options.role ?? 'none',
    hop: options.hop ?? null,
    a: options.a ?? '',
    b: options.b ?? '',
  });
  return id;
}

// ---- guest ------------------------------------------------------------------------------------------------------
export const GUEST_XMIT = kind(1, 'guest.xmit', 'the driver hands a frame to its transmit queue', { hop: 'out', a: 'bytes', b: 'gpa' });
export const GUEST_RX = kind(2, 'guest.rx', 'the driver takes a frame out of its receive queue', { hop: 'in', a: 'bytes', b: 'head' });
export const GUEST_DELIVER = kind(3, 'guest.deliver', 'a socket or application of the guest received the frame', { role: 'delivered', a: 'bytes' });
export const GUEST_CONSUME = kind(4, 'guest.consume', 'a protocol of the guest (ARP, ICMP echo) took the frame', { role: 'consumed', a: 'bytes' });
export const GUEST_FORWARD = kind(5, 'guest.forward', 'an application of the guest forwards the frame', { a: 'bytes' });
export const GUEST_NAPI_POLL = kind(6, 'guest.napi_poll', 'NAPI poll of a queue starts', { a: 'budget' });
export const GUEST_IRQ = kind(7, 'guest.irq', 'the interrupt handler of a vector runs', { a: 'vector' });
export const GUEST_TXQ_STOP = kind(8, 'guest.txq_stop', 'transmit queue stopped: too few free descriptors', { a: 'num_free' });
export const GUEST_TXQ_WAKE = kind(9, 'guest.txq_wake', 'transmit queue runs again', { a: 'num_free' });
export const GUEST_DROP_OTHER_HOST = kind(10, 'guest.other_host', 'dropped: destination MAC is not this host (PACKET_OTHERHOST)', { role: 'dropped', a: 'bytes' });
export const GUEST_DROP_NO_SOCKET = kind(11, 'guest.no_socket', 'dropped: nobody listens on that address and port', { role: 'dropped', a: 'bytes' });
export const GUEST_DROP_BAD_CHECKSUM = kind(12, 'guest.bad_checksum', 'dropped: IP or UDP checksum is wrong', { role: 'dropped', a: 'bytes' });
export const GUEST_DROP_MALFORMED = kind(13, 'guest.malformed', 'dropped: not a protocol or layout that the stack takes', { role: 'dropped', a: 'bytes' });
export const GUEST_DROP_TX_FULL = kind(14, 'guest.tx_full', 'dropped: transmit ring of the forwarding port is full', { role: 'dropped', a: 'bytes' });
export const GUEST_DROP_MTU = kind(239, 'guest.mtu_exceeded', 'dropped: longer than the MTU of the NIC by which the guest forwards, and not to be segmented', { role: 'dropped', a: 'bytes', b: 'mtu' });

// ---- virtqueue --------------------------------------------------------------------------------------------------
export const VIRTQ_DESCRIPTORS = kind(15, 'virtq.descriptors', 'the descriptors that the driver wrote for a chain, as they stand in guest memory', { a: 'position/8', b: 'bytes' });
export const VIRTQ_AVAIL = kind(16, 'virtq.avail', 'the driver put the frame into the available ring', { hop: 'out', a: 'head', b: 'avail_idx' });
export const VIRTQ_AVAIL_IDX = kind(17, 'virtq.avail_idx', 'the driver published avail.idx', { a: 'entries', b: 'avail_idx' });
export const VIRTQ_POP = kind(18, 'virtq.pop', 'the device took a chain out of the available ring', { a: 'head', b: 'last_avail_idx' });
export const VIRTQ_USED = kind(19, 'virtq.used', 'the device put a chain with this frame into the used ring', { hop: 'in', a: 'bytes', b: 'head' });
export const VIRTQ_TX_USED = kind(20, 'virtq.tx_used', 'the device returned a transmit chain through the used ring', { a: 'head', b: 'used_idx' });
export const VIRTQ_USED_IDX = kind(21, 'virtq.used_idx', 'the device published used.idx', { a: 'entries', b: 'used_idx' });
export const VIRTQ_KICK = kind(22, 'virtq.kick', 'available buffer notification: the driver wrote the notify register', { a: 'queue', b: 'avail_idx' });
export const VIRTQ_KICK_SUPPRESSED = kind(23, 'virtq.kick_suppressed', 'no available buffer notification: the ring said so', { a: 'avail_event', b: 'avail_idx' });
export const VIRTQ_INTERRUPT = kind(24, 'virtq.interrupt', 'used buffer notification: the device signals the driver', { a: 'used_event', b: 'used_idx' });
export const VIRTQ_INTERRUPT_SUPPRESSED = kind(25, 'virtq.interrupt_suppressed', 'no used buffer notification: the ring said so', { a: 'used_event', b: 'used_idx' });
export const VIRTQ_KICKS_ON = kind(26, 'virtq.kicks_on', 'the device asks for kicks (VRING_USED_F_NO_NOTIFY clear, or avail_event)', { b: 'avail_event' });
export const VIRTQ_KICKS_OFF = kind(27, 'virtq.kicks_off', 'the device asks for no kicks');
export const VIRTQ_INTERRUPTS_ON = kind(28, 'virtq.interrupts_on', 'the driver asks for interrupts (VRING_AVAIL_F_NO_INTERRUPT clear, or used_event)', { b: 'used_event' });
export const VIRTQ_INTERRUPTS_OFF = kind(29, 'virtq.interrupts_off', 'the driver asks for no interrupts');
export const VIRTQ_RECLAIM = kind(30, 'virtq.reclaim', 'the driver took its transmit buffer back', { a: 'head', b: 'used_idx' });
export const VIRTQ_ERROR = kind(31, 'virtq.error', 'the device refused a chain or an index of the driver', { a: 'code', b: 'value' });
export const VIRTQ_DROP_BAD_CHAIN = kind(32, 'virtq.bad_chain', 'dropped: the chain points outside guest memory, loops or is too long', { role: 'dropped', a: 'code' });
export const VIRTQ_RX_EMPTY = kind(33, 'virtq.rx_empty', 'the device found no receive buffer and waits for the driver', { b: 'last_avail_idx' });
export const VIRTQ_DROP_RESET = kind(120, 'virtq.reset', 'dropped: waited in a ring that was reset, or that the driver took back', { role: 'dropped', a: 'queue' });
export const VIRTQ_CLIENT_RX = kind(121, 'virtq.client_rx', 'the frame lies in the receive ring of a NIC without a driver: its client has it', { role: 'delivered', a: 'bytes', b: 'head' });

// ---- kvm --------------------------------------------------------------------------------------------------------
export const KVM_EXIT_MMIO_KERNEL = kind(34, 'kvm.exit_ept_misconfig_kernel', 'EPT_MISCONFIG exit of a register access, answered in the kernel by an ioeventfd', { a: 'address', b: 'value' });
export const KVM_EXIT_MMIO_USER = kind(35, 'kvm.exit_ept_misconfig_user', 'EPT_MISCONFIG exit of a register access, answered in userspace (KVM_EXIT_MMIO)', { a: 'address', b: 'value' });
export const KVM_EXIT_HLT = kind(36, 'kvm.exit_hlt', 'the vCPU halts');
export const KVM_EXIT_EXTERNAL_INTERRUPT = kind(37, 'kvm.exit_external_interrupt', 'a running vCPU leaves the guest to take an interrupt', { a: 'vector' });
export const KVM_EXIT_IO = kind(38, 'kvm.exit_io_user', 'IO_INSTRUCTION exit answered in userspace (KVM_EXIT_IO): PCI configuration space, registers behind ports', { a: 'address', b: 'value' });
export const KVM_EXIT_IO_KERNEL = kind(123, 'kvm.exit_io_kernel', 'IO_INSTRUCTION exit of a port write, answered in the kernel by an ioeventfd', { a: 'address', b: 'value' });
export const KVM_IRQFD = kind(39, 'kvm.irqfd', 'an eventfd signal became an MSI in the kernel', { a: 'vector' });
export const KVM_SIGNAL_MSI = kind(40, 'kvm.signal_msi', 'KVM_SIGNAL_MSI ioctl: userspace injects an MSI', { a: 'vector' });
export const KVM_IRQ_LINE = kind(122, 'kvm.irq_line', 'KVM_IRQ_LINE ioctl: userspace sets the level of an interrupt line', { a: 'line', b: 'level' });
export const KVM_ENTRY = kind(41, 'kvm.entry', 'a halted vCPU runs again', { a: 'pending | one bit per vector' });
export const KVM_IOCTL = kind(42, 'kvm.ioctl', 'a KVM ioctl of the set-up', { a: 'ioctl', b: 'argument' });

// ---- eventfd, scheduling, system calls --------------------------------------------------------------------------
export const EVENTFD_SIGNAL = kind(43, 'eventfd.signal', 'eventfd written', { a: 'counter' });
export const EVENTFD_READ = kind(44, 'eventfd.read', 'eventfd read and reset', { a: 'counter' });
export const SCHED_WAKE = kind(45, 'sched.wake', 'a sleeping context runs');
export const SCHED_SLEEP = kind(46, 'sched.sleep', 'a context has nothing to do and sleeps');
export const SCHED_SWITCH = kind(47, 'sched.switch', 'a core switches to this context', { a: 'core' });
export const SCHED_SYSCALL = kind(48, 'sched.syscall', 'a system call of the data path', { a: 'number' });

// ---- packet -----------------------------------------------------------------------------------------------------
export const PACKET_BYTES = kind(49, 'packet.bytes', 'a version of the frame was stored in the byte ring', { role: 'none', a: 'position/8', b: 'bytes' });
export const PACKET_BORN = kind(50, 'packet.born', 'the frame enters the world', { role: 'born', a: 'bytes', b: 'run' });
export const PACKET_CLONE = kind(51, 'packet.clone', 'a copy of frame `a` with an id of its own (flooding)', { role: 'cloned', a: 'parent frame', b: 'bytes' });
export const PACKET_COPY = kind(52, 'packet.copy', 'a host CPU copied the frame', { a: 'bytes', b: 'arena offset' });
export const PACKET_DMA = kind(53, 'packet.dma', 'a NIC moved the frame by DMA', { a: 'bytes' });

export const PACKET_SEGMENT = kind(54, 'packet.segment', 'a frame that was cut from frame `a`, with an id of its own', { role: 'cloned', a: 'parent frame', b: 'bytes' });
export const PACKET_SEGMENTED = kind(97, 'packet.segmented', 'the frame was cut into segments, which live on', { role: 'replaced', a: 'segments', b: 'gso_size' });
export const PACKET_MERGE = kind(55, 'packet.merge', 'the frame became part of frame `a` (GRO, LRO)', { role: 'replaced', a: 'frame', b: 'bytes' });
export const PACKET_CHECKSUM = kind(98, 'packet.checksum', 'a CPU completed the checksum that the sender left to an offload', { a: 'bytes', b: 'checksum' });
export const PACKET_DROP_NO_MEMORY = kind(102, 'packet.no_memory', 'dropped: no buffer for a frame of this size', { role: 'dropped', a: 'bytes' });

// ---- tap --------------------------------------------------------------------------------------------------------
export const TAP_XMIT = kind(56, 'tap.xmit', 'a frame written to the tap by its backend enters the host stack', { hop: 'in', a: 'bytes' });
export const TAP_ENQUEUE = kind(57, 'tap.enqueue', 'a frame for the guest enters the tap queue', { hop: 'out', a: 'bytes', b: 'queue length' });
export const TAP_DEQUEUE = kind(58, 'tap.dequeue', 'the backend reads a frame from the tap queue', { a: 'bytes', b: 'queue length' });
export const TAP_DROP_QUEUE_FULL = kind(59, 'tap.queue_full', 'dropped: the tap queue is full', { role: 'dropped', a: 'bytes' });
export const TAP_DROP_QUEUE_DISABLED = kind(127, 'tap.queue_disabled', 'dropped: the receive queue is being reset or not enabled, and no other one may have the frame', { role: 'dropped', a: 'bytes' });

// ---- Open vSwitch datapaths -------------------------------------------------------------------------------------
export const DP_INGRESS = kind(60, 'dp.ingress', 'a frame enters the datapath at a port', { hop: 'in', a: 'bytes', b: 'port' });
export const DP_OUTPUT = kind(61, 'dp.output', 'the datapath outputs the frame to a port', { hop: 'out', a: 'bytes', b: 'port' });
export const DP_HIT = kind(62, 'dp.hit', 'kernel flow table hit', { a: 'masks probed', b: 'flow' });
export const DP_EMC_HIT = kind(63, 'dp.emc_hit', 'netdev datapath: exact match cache hit', { b: 'flow' });
export const DP_MEGAFLOW_HIT = kind(64, 'dp.megaflow_hit', 'netdev datapath: dpcls hit', { a: 'subtables probed', b: 'flow' });
export const DP_MISS = kind(65, 'dp.miss', 'no flow matches: upcall', { a: 'masks probed', b: 'port' });
export const DP_UPCALL = kind(66, 'dp.upcall', 'ofproto translates the missed frame', { a: 'port', b: 'actions' });
export const DP_FLOW_PUT = kind(67, 'dp.flow_put', 'a datapath flow is installed', { a: 'flow', b: 'mask' });
export const DP_FDB_LEARN = kind(68, 'dp.fdb_learn', 'MAC learning: a source address is new or moved', { a: 'mac low 32', b: 'port' });
export const DP_REVALIDATE = kind(69, 'dp.revalidate', 'a datapath flow was translated again after a change of the FDB', { a: 'flow', b: 'actions' });
export const DP_DROP_NO_OUTPUT = kind(70, 'dp.no_output', 'dropped: the flow has no output (learned on the ingress port)', { role: 'dropped', a: 'bytes' });
export const DP_DROP_UPCALL_LOST = kind(71, 'dp.upcall_lost', 'dropped: the upcall queue is full', { role: 'dropped', a: 'bytes' });
export const DP_DROP_MALFORMED = kind(72, 'dp.malformed', 'dropped: no Ethernet header', { role: 'dropped', a: 'bytes' });
export const DP_EMC_INSERT = kind(73, 'dp.emc_insert', 'netdev datapath: the flow enters the exact match cache', { b: 'flow' });
export const DP_UPCALL_COPY = kind(74, 'dp.upcall_copy', 'the frame is copied to or from ovs-vswitchd (kernel datapath upcall)', { a: 'bytes' });

// ---- NIC and link -----------------------------------------------------------------------------------------------
export const NIC_TX = kind(76, 'nic.tx', 'the host hands a frame to the NIC transmit ring', { hop: 'out', a: 'bytes', b: 'ring occupancy' });
export const NIC_WIRE_TX = kind(77, 'nic.wire_tx', 'the last bit of the frame left on the wire', { hop: 'out', a: 'bytes' });
export const NIC_WIRE_RX = kind(78, 'nic.wire_rx', 'the last bit of the frame arrived from the wire', { hop: 'in', a: 'bytes' });
export const NIC_RX = kind(79, 'nic.rx', 'the host takes a frame out of the NIC receive ring', { hop: 'in', a: 'bytes', b: 'ring occupancy' });
export const NIC_INTERRUPT = kind(80, 'nic.interrupt', 'the NIC raises its receive interrupt', {});
export const NIC_DROP_RX_RING_FULL = kind(81, 'nic.rx_ring_full', 'dropped: no receive descriptor (rx_missed_errors)', { role: 'dropped', a: 'bytes' });
export const NIC_DROP_TX_RING_FULL = kind(82, 'nic.tx_ring_full', 'dropped: transmit ring is full', { role: 'dropped', a: 'bytes' });
export const LINK_DROP_LOSS = kind(83, 'link.loss', 'dropped: the link lost the frame', { role: 'dropped', a: 'bytes' });
export const WIRE_DELIVER = kind(84, 'wire.deliver', 'the frame reached the wire end of a NIC', { role: 'delivered', a: 'bytes' });

export const NIC_DROP_RX_LENGTH = kind(103, 'nic.rx_length', 'dropped: longer than the receive buffers (rx_length_errors)', { role: 'dropped', a: 'bytes' });
export const NIC_DROP_RX_FIFO = kind(238, 'nic.rx_fifo', 'dropped: more frames per second than the NIC can carry (rx_fifo_errors)', { role: 'dropped', a: 'bytes' });
export const DP_DROP_MTU = kind(104, 'dp.mtu_exceeded', 'dropped: longer than the MTU of the port, and not to be segmented', { role: 'dropped', a: 'bytes' });

// ---- vhost ------------------------------------------------------------------------------------------------------
export const VHOST_IOCTL = kind(86, 'vhost.ioctl', 'an ioctl on /dev/vhost-net', { a: 'ioctl', b: 'argument' });
export const VHOST_IOCTL_ARGUMENT = kind(156, 'vhost.ioctl_argument', 'the structure that a vhost ioctl was given, as it stood when it returned, byte for byte', { a: 'position/8', b: 'bytes' });
export const VHOST_IOCTL_RESULT = kind(157, 'vhost.ioctl_result', 'what a vhost ioctl returned, where it was not 0: a negative errno', { a: 'ioctl', b: 'result' });
export const VHOST_USER_REQUEST = kind(87, 'vhost.user_request', 'a vhost-user message of the front-end', { a: 'request', b: 'payload bytes' });
export const VHOST_USER_REPLY = kind(88, 'vhost.user_reply', 'a vhost-user reply of the back-end', { a: 'request', b: 'payload bytes' });
export const VHOST_USER_DROP_RX_FULL = kind(89, 'vhost_user.rx_full', 'dropped: the guest has no receive buffer (ovs_tx_failure_drops)', { role: 'dropped', a: 'bytes' });
export const VHOST_USER_MESSAGE = kind(90, 'vhost.user_message', 'a vhost-user message as it is on the socket, byte for byte', { a: 'position/8', b: 'bytes' });

// ---- device set-up ----------------------------------------------------------------------------------------------
export const VIRTIO_STATUS = kind(92, 'virtio.status', 'device status written by the driver', { a: 'status', b: 'accepted status' });
export const VIRTIO_FEATURES = kind(93, 'virtio.features', 'feature word: offered (at the device) or accepted (by the driver)', { a: 'word | select << 31', b: 'bits' });
export const VIRTIO_QUEUE_ENABLE = kind(94, 'virtio.queue_enable', 'a queue was enabled', { a: 'queue', b: 'size' });
export const PCI_CAPABILITY = kind(95, 'pci.capability', 'the driver found a capability', { a: 'offset', b: 'id | cfg_type << 8' });
export const TUN_IOCTL = kind(96, 'tap.ioctl', 'an ioctl on /dev/net/tun', { a: 'ioctl', b: 'argument' });
export const TUN_IOCTL_ARGUMENT = kind(158, 'tap.ioctl_argument', 'the structure that an ioctl on /dev/net/tun was given, as it stood when it returned, byte for byte', { a: 'position/8', b: 'bytes' });
export const TUN_IOCTL_RESULT = kind(159, 'tap.ioctl_result', 'what an ioctl on /dev/net/tun returned, where it was not 0: a negative errno', { a: 'ioctl', b: 'result' });

export const VIRTIO_NET_DROP_RX_FILTER = kind(105, 'virtio_net.rx_filter', 'dropped: the receive filter does not want this address or VLAN', { role: 'dropped', a: 'bytes' });
export const VIRTIO_NET_CTRL = kind(106, 'virtio_net.ctrl', 'the device executed a command of the control queue', { a: 'command | class << 8', b: 'ack' });
export const VIRTIO_NEEDS_RESET = kind(107, 'virtio.needs_reset', 'the device cannot go on: DEVICE_NEEDS_RESET', { a: 'reason', b: 'queue' });
export const VIRTIO_QUEUE_RESET = kind(108, 'virtio.queue_reset', 'the driver reset a queue', { a: 'queue' });
export const VIRTIO_CONFIG_CHANGE = kind(109, 'virtio.config_change', 'configuration change notification', { a: 'config_generation', b: 'status' });
export const VIRTIO_REGISTER_WRITE = kind(114, 'virtio.register_write', 'a client wrote a register of the device', { a: 'offset | region << 24', b: 'value' });
export const GUEST_MEMORY_WRITE = kind(119, 'guest.memory_write', 'a client wrote guest memory', { a: 'address', b: 'bytes' });
export const VIRTIO_REJECTED = kind(117, 'virtio.rejected', 'the device ignored an access of the driver that makes no sense', { a: 'offset | region << 24', b: 'value' });
export const VIRTIO_NET_CTRL_SENT = kind(118, 'virtio_net.ctrl_sent', 'the driver sends a command on the control queue', { a: 'command | class << 8', b: 'bytes' });

// ---- QEMU's control of a NIC's back-end ---------------------------------------------------------------------------
export const QEMU_VM_STOP = kind(144, 'qemu.vm_stop', 'QEMU stops the vCPUs and the back-ends of the guest (QMP stop)');
export const QEMU_VM_START = kind(145, 'qemu.vm_start', 'QEMU lets the guest go on (QMP cont)');
export const QEMU_RING_STOP = kind(146, 'qemu.ring_stop', 'a ring is taken from whoever served it; where it stands', { a: 'queue', b: 'base' });
export const QEMU_RING_START = kind(147, 'qemu.ring_start', 'a ring is handed over again; where it stands', { a: 'queue', b: 'base' });
export const QEMU_DEVICE_STATE = kind(148, 'qemu.device_state', 'the state of a device is saved (0) or loaded (1)', { a: 'bytes', b: 'loaded' });
export const QEMU_VHOST_FALLBACK = kind(149, 'qemu.vhost_fallback', 'vhost-net did not start: the main loop carries the frames of the NIC', { a: 'errno' });
export const QEMU_NETDEV = kind(150, 'qemu.netdev', 'a NIC has another back-end (0 QEMU, 1 vhost-net, 2 vhost-user), or another bridge', { a: 'before', b: 'after' });
export const VIRTIO_NET_DROP_LINK_DOWN = kind(151, 'virtio_net.link_down', 'dropped: the link of the NIC is down', { role: 'dropped', a: 'bytes' });

// ---- TCP --------------------------------------------------------------------------------------------------------
export const TCP_RETRANSMIT = kind(111, 'tcp.retransmit', 'a segment is sent again', { a: 'sequence number', b: 'bytes' });
export const TCP_STATE = kind(112, 'tcp.state', 'a connection changed its state', { a: 'state', b: 'local port' });
export const TCP_CWND = kind(115, 'tcp.cwnd', 'the congestion window of a sender after a loss was found, or repaired', { a: 'cwnd', b: 'ssthresh' });
export const GUEST_APP_WAKE = kind(116, 'guest.app_wake', 'a thread of the guest that sleeps in a system call is woken', { a: 'local port' });
export const GUEST_APP_READ = kind(124, 'guest.app_read', 'a thread of the guest has read from its socket', { a: 'bytes', b: 'local port' });
export const GUEST_DROP_TCP = kind(113, 'guest.tcp_out_of_window', 'dropped: the segment has nothing new for its connection, or belongs to none', { role: 'dropped', a: 'bytes' });

// ---- traffic ----------------------------------------------------------------------------------------------------
export const TRAFFIC_START = kind(100, 'traffic.start', 'a run begins', { a: 'run' });
export const TRAFFIC_END = kind(101, 'traffic.end', 'a run has ended', { a: 'run' });
export const FAULT_ASSERT = kind(110, 'fault.assert', 'an assertion of the emulator failed: the world stops', {});

// ---- vIOMMU and device IOTLB (184-199) ----------------------------------------------------------------------------
// IOVAs have 39 bits at most (qemu aw-bits): as page numbers they fit a column
export const IOMMU_MAP = kind(184, 'iommu.map', 'the guest kernel maps a buffer for the device: page table entries are written', { a: 'iova/4096', b: 'bytes' });
export const IOMMU_UNMAP = kind(185, 'iommu.unmap', 'the guest kernel unmaps a buffer: page table entries are cleared', { a: 'iova/4096', b: 'bytes' });
export const IOMMU_INVALIDATE = kind(186, 'iommu.invalidate', 'the vIOMMU executes a descriptor of its invalidation queue', { a: 'type | granularity << 4', b: 'iova/4096' });
export const IOMMU_WAIT_DONE = kind(187, 'iommu.wait_done', 'invalidation wait descriptor: all descriptors before it are done, the status word is written', { a: 'status data', b: 'ns waited for work in flight' });
export const IOMMU_FAULT = kind(188, 'iommu.fault', 'the vIOMMU refused a translation and recorded the fault', { a: 'reason | source id << 16', b: 'iova/4096' });
export const IOTLB_MISS = kind(189, 'iotlb.miss', 'the back-end has no translation for an address and asks QEMU', { a: 'iova/4096', b: 'VHOST_ACCESS_ bits' });
export const IOTLB_UPDATE = kind(190, 'iotlb.update', 'QEMU gives the back-end a translation', { a: 'iova/4096', b: 'bytes' });
export const IOTLB_INVALIDATE = kind(191, 'iotlb.invalidate', 'QEMU takes translations from the back-end, which says when it is done', { a: 'iova/4096', b: 'pages' });
export const IOTLB_EVICT = kind(192, 'iotlb.evict', 'the back-end forgets a translation to make room', { a: 'iova/4096', b: 'entries' });
export const IOMMU_FLUSH = kind(193, 'iommu.flush', 'lazy mode: the flush queue is emptied with one domain-wide invalidation', { a: 'unmapped buffers', b: '1: by its timer' });
export const IOMMU_REGISTER = kind(194, 'iommu.register', 'the guest kernel writes a register of the vIOMMU', { a: 'offset', b: 'value' });
export const VHOST_USER_DROP_IOTLB_MISS = kind(195, 'vhost_user.iotlb_miss', 'dropped: the translation of the receive buffer is not in the IOTLB yet (ovs_tx_failure_drops)', { role: 'dropped', a: 'bytes' });
export const VFIO_DMA = kind(196, 'vfio.dma', 'a container maps (or with 0 bytes of b unmaps) memory for its devices', { a: 'iova/4096', b: 'bytes/4096' });
export const HOST_IOMMU_FAULT = kind(197, 'host_iommu.fault', 'dropped: the NIC wrote to memory that its driver has not mapped in the host\u2019s IOMMU', { role: 'dropped', a: 'bytes' });

// ---- kvm: descriptors, KVM_RUN, halt polling; the start of QEMU's process --------------------------------------------
export const KVM_IOCTL_ARGUMENT = kind(128, 'kvm.ioctl_argument', 'the structure that a KVM ioctl was given, byte for byte', { a: 'position/8', b: 'bytes' });
export const KVM_IOCTL_RESULT = kind(129, 'kvm.ioctl_result', 'what a KVM ioctl returned: 0, a number or descriptor, or a negative errno', { a: 'ioctl', b: 'result' });
export const KVM_USERSPACE_EXIT = kind(130, 'kvm.userspace_exit', 'KVM_RUN returns to userspace, with the exit_reason in struct kvm_run', { a: 'exit_reason', b: 'errno' });
export const KVM_RUN_CALL = kind(131, 'kvm.run', 'KVM_RUN: userspace lets the vCPU run', { a: 'fd' });
export const KVM_HALT_POLL_SUCCESS = kind(132, 'kvm.halt_poll_success', 'a halted vCPU was woken while its thread still polled', { a: 'ns', b: 'halt_poll_ns' });
export const KVM_HALT_POLL_FAIL = kind(133, 'kvm.halt_poll_fail', 'a halted vCPU was woken after its thread had polled in vain', { a: 'ns', b: 'halt_poll_ns' });
export const KVM_POSTED_INTERRUPT = kind(134, 'kvm.posted_interrupt', 'an interrupt reaches a running vCPU without an exit', { a: 'vector' });
export const KVM_OPEN = kind(135, 'kvm.open', '/dev/kvm is opened', { a: 'fd' });
export const QEMU_PHASE = kind(136, 'qemu.phase', 'QEMU has reached a phase of its start (MachineInitPhase)', { a: 'phase' });
export const QEMU_DEVICE_REALIZE = kind(137, 'qemu.device_realize', 'the device comes to be, with what its back-end offers', { a: 'number' });
export const QEMU_DEVICE_RESET = kind(138, 'qemu.device_reset', 'the machine is reset, and the device with it', { a: 'number' });
export const QEMU_TX_TIMER = kind(139, 'qemu.tx_timer', 'tx=timer: the transmit queue will be flushed after this time', { a: 'ns' });

// ---- growth of a running world ----------------------------------------------------------------------------------
export const DP_PORT_ADD = kind(224, 'dp.port_add', 'the bridge has a further port', { a: 'port' });
export const DP_PORT_DEL = kind(225, 'dp.port_del', 'a port of the bridge is gone; flows and MAC entries that named it go with it', { a: 'port', b: 'flows' });
export const PORT_DROP_REMOVED = kind(226, 'port.removed', 'dropped: waited at a port that was removed, or had come in by it', { role: 'dropped', a: 'bytes' });

// ---- vhost-user: the sockets, the second channel, the rings (164-171) -------------------------------------------------
export const VHOST_USER_LISTEN = kind(164, 'vhost.socket_listen', 'a side listens at the vhost-user socket', { a: 'side' });
export const VHOST_USER_CONNECT = kind(165, 'vhost.socket_connect', 'a side connects to the vhost-user socket, and the other accepts', { a: 'side' });
export const VHOST_USER_CLOSE = kind(166, 'vhost.socket_close', 'the vhost-user connection ends', { a: 'reason', b: 'request' });
export const VHOST_USER_BACKEND_REQUEST = kind(167, 'vhost.backend_request', 'a request of the back-end on the second channel', { a: 'request', b: 'payload bytes' });
export const VHOST_USER_BACKEND_REPLY = kind(168, 'vhost.backend_reply', 'a reply of the front-end on the second channel', { a: 'request', b: 'payload bytes' });
export const VHOST_USER_BACKEND_MESSAGE = kind(169, 'vhost.backend_message', 'a message of the second channel as it is on the socket, byte for byte', { a: 'position/8', b: 'bytes' });
export const VHOST_USER_RING = kind(170, 'vhost.ring_state', 'a ring of the vhost-user back-end is stopped, started but disabled, or served', { a: 'ring', b: 'state' });
export const VHOST_USER_RARP = kind(171, 'vhost_user.rarp', 'the back-end broadcasts a RARP for the guest', { a: 'mac low 32' });

// ---- bridge of the Linux kernel ---------------------------------------------------------------------------------
export const BR_FORWARD = kind(152, 'br.forward', 'the bridge knows where the destination is', { a: 'bytes', b: 'port' });
export const BR_FLOOD = kind(153, 'br.flood', 'the destination is unknown or a group: the frame goes to all other ports', { a: 'bytes', b: 'ports' });
export const BR_DROP_NO_OUTPUT = kind(154, 'br.no_output', 'dropped: the destination is behind the port that the frame came in by, or there is no other port', { role: 'dropped', a: 'bytes' });
export const BR_DROP_NOT_FORWARDED = kind(155, 'br.not_forwarded', 'dropped: a link-local destination, or a source that is no address of a station', { role: 'dropped', a: 'bytes' });

// ---- DPDK and VFIO (200-215) --------------------------------------------------------------------------------------
export const VFIO_OPEN = kind(200, 'vfio.open', 'a program opens a VFIO container, group (0 and 1) or is given a device (2)', { a: 'fd', b: 'file' });
export const VFIO_IOCTL = kind(201, 'vfio.ioctl', 'an ioctl on a VFIO container, group or device', { a: 'ioctl', b: 'argument' });
export const VFIO_IOCTL_ARGUMENT = kind(202, 'vfio.ioctl_argument', 'the structure that a VFIO ioctl was given, as it stood when it returned, byte for byte', { a: 'position/8', b: 'bytes' });
export const VFIO_IOCTL_RESULT = kind(203, 'vfio.ioctl_result', 'what a VFIO ioctl returned: 0, a number or descriptor, or a negative errno', { a: 'ioctl', b: 'result' });
export const EAL_PHASE = kind(204, 'dpdk.eal', 'a DPDK program has reached a phase of its start', { a: 'phase' });
export const EAL_MEMORY = kind(205, 'dpdk.memory', 'the EAL takes memory for its heap', { a: 'bytes', b: 'address/4096' });
export const DPDK_MEMPOOL = kind(206, 'dpdk.mempool', 'a pool of mbufs is made', { a: 'mbufs', b: 'bytes of an mbuf' });
export const DPDK_RX_NOMBUF = kind(207, 'dpdk.rx_nombuf', 'the receive ring stays short: the pool has fewer mbufs than it needs (rx_mbuf_alloc_failed)', { a: 'mbufs wanted', b: 'mbufs free' });
export const DPDK_LCORE = kind(208, 'dpdk.lcore', 'an lcore begins to run the program on its vCPU', { a: 'lcore', b: 'queue pairs' });
export const GUEST_APP_TAKE = kind(209, 'guest.app_take', 'a DPDK program that only receives took the frame and frees its mbufs', { role: 'delivered', a: 'bytes' });
export const DPDK_PORT = kind(210, 'dpdk.port', 'a physical NIC becomes a port of a DPDK program, through VFIO', { a: 'receive descriptors', b: 'transmit descriptors' });

// ---- ovs-vswitchd (211-217) ------------------------------------------------------------------------------------------
export const PORT_DROP_POLICED = kind(211, 'port.policed', 'dropped: more came in by the port than its ingress policing lets pass', { role: 'dropped', a: 'bytes' });

// ---- faults that were asked for, back-ends that die (172-183) --------------------------------------------------------
export const VHOST_USER_DROP_CRASH = kind(172, 'vhost_user.backend_crash', 'dropped: the vhost-user back-end that held it has died', { role: 'dropped', a: 'bytes' });
export const PACKET_DUPLICATE = kind(173, 'packet.duplicate', 'a frame that is sent again, with an id of its own: its descriptor was not marked used when the back-end died', { role: 'cloned', a: 'parent frame', b: 'bytes' });
export const FAULT_BEGIN = kind(174, 'fault.begin', 'a fault that was asked for begins', { a: 'fault', b: 'times' });
export const FAULT_END = kind(175, 'fault.end', 'it is over: all is as before', { a: 'fault', b: 'times' });
export const VHOST_USER_BACKEND_DEAD = kind(176, 'vhost_user.backend_dead', 'the back-end of the port has died: what it held is lost', { a: 'frames dropped', b: 'frames to be sent again' });
export const QEMU_BACKEND_GONE = kind(177, 'qemu.backend_gone', 'the front-end finds its vhost-user socket closed; the link of the NIC goes down');
export const QEMU_BACKEND_BACK = kind(178, 'qemu.backend_back', 'the front-end is connected again; the link of the NIC comes up', { a: 'connection', b: 'tries in vain' });
export const FAULT_KICK_LOST = kind(179, 'fault.kick_lost', 'an available buffer notification is lost on its way', { a: 'fault' });
export const FAULT_INTERRUPT_LOST = kind(180, 'fault.interrupt_lost', 'a used buffer notification is lost on its way', { a: 'fault' });

// ---- Open vSwitch datapaths: actions, caches, ports of the host (227-237) --------------------------------------------
export const DP_RECIRC = kind(227, 'dp.recirc', 'the frame is recirculated: looked up again with what the actions have set', { a: 'recirc_id', b: 'depth' });
export const DP_CT = kind(228, 'dp.ct', 'connection tracking: the state that the frame has got', { a: 'ct_state', b: 'zone' });
export const DP_DROP_METER = kind(229, 'dp.meter', 'dropped: a meter allows no more', { role: 'dropped', a: 'bytes' });
export const DP_DROP_RECIRC = kind(230, 'dp.recirc_limit', 'dropped: recirculated too often', { role: 'dropped', a: 'bytes' });
export const DP_CONTROLLER = kind(231, 'dp.controller', 'an action sends the frame, or a copy, to ovs-vswitchd', { a: 'reason', b: 'recirc_id' });
export const DP_SMC_HIT = kind(232, 'dp.smc_hit', 'netdev datapath: signature match cache hit', { b: 'flow' });
export const DP_HOST_STACK = kind(233, 'dp.host_stack', 'the frame left by an internal port: the network stack of the host has it', { role: 'consumed', a: 'bytes' });
export const DP_DUMMY = kind(234, 'dp.dummy', 'the frame left by a port without a device: it can be read there', { role: 'consumed', a: 'bytes' });
export const DP_FLOW_DEL = kind(235, 'dp.flow_del', 'a datapath flow is removed', { a: 'flow', b: 'packets' });
export const DP_DROP_ACTION = kind(236, 'dp.drop', 'dropped: by an action of its flow', { role: 'dropped', a: 'bytes' });
export const DP_DONE = kind(237, 'dp.done', 'the actions end: what they did with the frame was no output of the frame itself', { role: 'consumed', a: 'bytes' });

/** All kinds, by declaration. */
export const EVENT_KINDS: readonly EventKind[] = rows;
/** Counters are an array of (place, kind); this is its stride, so kind ids stay below it. */
export const KIND_STRIDE = 256;
/** Kind by id; undefined where no kind has the id. */
export const KIND_BY_ID: readonly (EventKind | undefined)[] = Array.from({ length: KIND_STRIDE }, (_, id) => rows.find((k) => k.id === id));
/** Drop reasons: the kinds that end a frame as dropped, in table order. */
export const DROP_KINDS: readonly EventKind[] = rows.filter((k) => k.role === 'dropped');

// meta: kind in bits 0-7, place in bits 8-19, context in bits 20-31.
export const MAX_PLACES = 4096;
export const MAX_CONTEXTS = 4096;
/** Packs an event's meta word. Returns an unsigned 32-bit number. */
export function metaOf(kindId: number, place: number, context: number): number {
  return (kindId | (place << 8) | (context << 20)) >>> 0;
}
export const kindOf = (meta: number): number => meta & 0xff;
export const placeOf = (meta: number): number => (meta >>> 8) & 0xfff;
export const contextOf = (meta: number): number => meta >>> 20;
