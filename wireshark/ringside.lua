-- Ringside captures in Wireshark and tshark, 4.0 and newer. Needs nothing but this file.
--
-- view=wire and view=journey: a post-dissector makes fields of each row's comment (where the frame was, what the hop cost,
-- which exits it caused), so that display filters and columns can use them.
-- view=events: a dissector for the rows of link type USER0, one event of the emulated host each: virtqueues with their
-- descriptors, VM exits, interrupts, vhost-user messages, ioctls, and the frame where the event has one.
--
-- Runs with Lua 5.2 (Wireshark 4.0) and 5.4 (newer), hence without operators on bits. Whatever a row holds, no error is
-- raised: every read is checked against what was captured.

local ringside = Proto("ringside", "Ringside")
local event_row = Proto("ringside_event", "Ringside event")

if set_plugin_info then
  set_plugin_info({ version = "1.0", description = "Ringside captures: hops, costs, exits, events" })
end

-- ---- numbers that have names ------------------------------------------------------------------------------------

-- virtio 1.2 section 6 and 5.1.3; bits 26 and 30 are vhost's. Name by bit.
local FEATURES = {
  [0] = "VIRTIO_NET_F_CSUM", [1] = "VIRTIO_NET_F_GUEST_CSUM", [2] = "VIRTIO_NET_F_CTRL_GUEST_OFFLOADS",
  [3] = "VIRTIO_NET_F_MTU", [5] = "VIRTIO_NET_F_MAC", [6] = "VIRTIO_NET_F_GSO", [7] = "VIRTIO_NET_F_GUEST_TSO4",
  [8] = "VIRTIO_NET_F_GUEST_TSO6", [9] = "VIRTIO_NET_F_GUEST_ECN", [10] = "VIRTIO_NET_F_GUEST_UFO",
  [11] = "VIRTIO_NET_F_HOST_TSO4", [12] = "VIRTIO_NET_F_HOST_TSO6", [13] = "VIRTIO_NET_F_HOST_ECN",
  [14] = "VIRTIO_NET_F_HOST_UFO", [15] = "VIRTIO_NET_F_MRG_RXBUF", [16] = "VIRTIO_NET_F_STATUS",
  [17] = "VIRTIO_NET_F_CTRL_VQ", [18] = "VIRTIO_NET_F_CTRL_RX", [19] = "VIRTIO_NET_F_CTRL_VLAN",
  [20] = "VIRTIO_NET_F_CTRL_RX_EXTRA", [21] = "VIRTIO_NET_F_GUEST_ANNOUNCE", [22] = "VIRTIO_NET_F_MQ",
  [23] = "VIRTIO_NET_F_CTRL_MAC_ADDR", [24] = "VIRTIO_F_NOTIFY_ON_EMPTY", [26] = "VHOST_F_LOG_ALL",
  [27] = "VIRTIO_F_ANY_LAYOUT", [28] = "VIRTIO_RING_F_INDIRECT_DESC", [29] = "VIRTIO_RING_F_EVENT_IDX",
  [30] = "VHOST_USER_F_PROTOCOL_FEATURES", [32] = "VIRTIO_F_VERSION_1", [33] = "VIRTIO_F_ACCESS_PLATFORM",
  [34] = "VIRTIO_F_RING_PACKED", [35] = "VIRTIO_F_IN_ORDER", [36] = "VIRTIO_F_ORDER_PLATFORM",
  [37] = "VIRTIO_F_SR_IOV", [38] = "VIRTIO_F_NOTIFICATION_DATA", [39] = "VIRTIO_F_NOTIF_CONFIG_DATA",
  [40] = "VIRTIO_F_RING_RESET", [41] = "VIRTIO_F_ADMIN_VQ",
  [42] = "VIRTIO_NET_F_GUEST_RSC6", [43] = "VIRTIO_F_SUSPEND", [50] = "VIRTIO_NET_F_DEVICE_STATS",
  [51] = "VIRTIO_NET_F_HASH_TUNNEL", [52] = "VIRTIO_NET_F_VQ_NOTF_COAL", [53] = "VIRTIO_NET_F_NOTF_COAL",
  [54] = "VIRTIO_NET_F_GUEST_USO4", [55] = "VIRTIO_NET_F_GUEST_USO6", [56] = "VIRTIO_NET_F_HOST_USO",
  [57] = "VIRTIO_NET_F_HASH_REPORT", [59] = "VIRTIO_NET_F_GUEST_HDRLEN", [60] = "VIRTIO_NET_F_RSS",
  [61] = "VIRTIO_NET_F_RSC_EXT", [62] = "VIRTIO_NET_F_STANDBY", [63] = "VIRTIO_NET_F_SPEED_DUPLEX",
}

-- QEMU docs/interop/vhost-user.rst, front-end message types.
local REQUESTS = {
  [1] = "GET_FEATURES", [2] = "SET_FEATURES", [3] = "SET_OWNER", [4] = "RESET_OWNER", [5] = "SET_MEM_TABLE",
  [6] = "SET_LOG_BASE", [7] = "SET_LOG_FD", [8] = "SET_VRING_NUM", [9] = "SET_VRING_ADDR", [10] = "SET_VRING_BASE",
  [11] = "GET_VRING_BASE", [12] = "SET_VRING_KICK", [13] = "SET_VRING_CALL", [14] = "SET_VRING_ERR",
  [15] = "GET_PROTOCOL_FEATURES", [16] = "SET_PROTOCOL_FEATURES", [17] = "GET_QUEUE_NUM", [18] = "SET_VRING_ENABLE",
  [19] = "SEND_RARP", [20] = "NET_SET_MTU", [21] = "SET_BACKEND_REQ_FD", [22] = "IOTLB_MSG",
  [23] = "SET_VRING_ENDIAN", [24] = "GET_CONFIG", [25] = "SET_CONFIG", [26] = "CREATE_CRYPTO_SESSION",
  [27] = "CLOSE_CRYPTO_SESSION", [28] = "POSTCOPY_ADVISE", [29] = "POSTCOPY_LISTEN", [30] = "POSTCOPY_END",
  [31] = "GET_INFLIGHT_FD", [32] = "SET_INFLIGHT_FD", [33] = "GPU_SET_SOCKET", [34] = "RESET_DEVICE",
  [35] = "VRING_KICK", [36] = "GET_MAX_MEM_SLOTS", [37] = "ADD_MEM_REG", [38] = "REM_MEM_REG", [39] = "SET_STATUS",
  [40] = "GET_STATUS", [41] = "GET_SHARED_OBJECT", [42] = "SET_DEVICE_STATE_FD", [43] = "CHECK_DEVICE_STATE",
  [44] = "GET_SHMEM_CONFIG",
}
local PROTOCOL_FEATURES = {
  [0] = "MQ", [1] = "LOG_SHMFD", [2] = "RARP", [3] = "REPLY_ACK", [4] = "NET_MTU", [5] = "BACKEND_REQ",
  [6] = "CROSS_ENDIAN", [7] = "CRYPTO_SESSION", [8] = "PAGEFAULT", [9] = "CONFIG", [10] = "BACKEND_SEND_FD",
  [11] = "HOST_NOTIFIER", [12] = "INFLIGHT_SHMFD", [13] = "RESET_DEVICE", [14] = "INBAND_NOTIFICATIONS",
  [15] = "CONFIGURE_MEM_SLOTS", [16] = "STATUS", [17] = "XEN_MMAP", [18] = "SHARED_OBJECT", [19] = "DEVICE_STATE",
}

-- linux include/uapi/linux/vhost.h, kvm.h and if_tun.h.
local VHOST_IOCTLS = {
  [0x8008af00] = "VHOST_GET_FEATURES", [0x4008af00] = "VHOST_SET_FEATURES", [0x0000af01] = "VHOST_SET_OWNER",
  [0x0000af02] = "VHOST_RESET_OWNER", [0x4008af03] = "VHOST_SET_MEM_TABLE", [0x4008af04] = "VHOST_SET_LOG_BASE",
  [0x4004af07] = "VHOST_SET_LOG_FD", [0x4008af10] = "VHOST_SET_VRING_NUM", [0x4028af11] = "VHOST_SET_VRING_ADDR",
  [0x4008af12] = "VHOST_SET_VRING_BASE", [0xc008af12] = "VHOST_GET_VRING_BASE",
  [0x4008af13] = "VHOST_SET_VRING_ENDIAN", [0x4008af14] = "VHOST_GET_VRING_ENDIAN",
  [0x4008af20] = "VHOST_SET_VRING_KICK", [0x4008af21] = "VHOST_SET_VRING_CALL", [0x4008af22] = "VHOST_SET_VRING_ERR",
  [0x4008af23] = "VHOST_SET_VRING_BUSYLOOP_TIMEOUT", [0x4008af24] = "VHOST_GET_VRING_BUSYLOOP_TIMEOUT",
  [0x4008af25] = "VHOST_SET_BACKEND_FEATURES", [0x8008af26] = "VHOST_GET_BACKEND_FEATURES",
  [0x4008af30] = "VHOST_NET_SET_BACKEND",
}
-- linux include/uapi/linux/kvm.h, struct kvm_run.
local EXIT_REASONS = { [2] = "KVM_EXIT_IO", [5] = "KVM_EXIT_HLT", [6] = "KVM_EXIT_MMIO", [8] = "KVM_EXIT_SHUTDOWN",
  [10] = "KVM_EXIT_INTR" }
-- qemu include/hw/qdev-core.h, MachineInitPhase.
local QEMU_PHASES = { [1] = "PHASE_MACHINE_CREATED", [2] = "PHASE_ACCEL_CREATED", [3] = "PHASE_LATE_BACKENDS_CREATED",
  [4] = "PHASE_MACHINE_INITIALIZED", [5] = "PHASE_MACHINE_READY" }
local KVM_IOCTLS = {
  [0xae00] = "KVM_GET_API_VERSION", [0xae01] = "KVM_CREATE_VM", [0xae03] = "KVM_CHECK_EXTENSION",
  [0xae04] = "KVM_GET_VCPU_MMAP_SIZE", [0xae41] = "KVM_CREATE_VCPU", [0x4010ae42] = "KVM_GET_DIRTY_LOG",
  [0x4020ae46] = "KVM_SET_USER_MEMORY_REGION", [0xae47] = "KVM_SET_TSS_ADDR",
  [0x4008ae48] = "KVM_SET_IDENTITY_MAP_ADDR", [0xae60] = "KVM_CREATE_IRQCHIP", [0x4008ae61] = "KVM_IRQ_LINE",
  [0xc008ae67] = "KVM_IRQ_LINE_STATUS", [0x4010ae67] = "KVM_REGISTER_COALESCED_MMIO",
  [0x4010ae68] = "KVM_UNREGISTER_COALESCED_MMIO", [0x4008ae6a] = "KVM_SET_GSI_ROUTING", [0x4020ae76] = "KVM_IRQFD",
  [0x4040ae79] = "KVM_IOEVENTFD", [0x4020aea5] = "KVM_SIGNAL_MSI", [0xc00caee0] = "KVM_CREATE_DEVICE",
  [0xae80] = "KVM_RUN", [0x8090ae81] = "KVM_GET_REGS", [0x4090ae82] = "KVM_SET_REGS", [0x8138ae83] = "KVM_GET_SREGS",
  [0x4138ae84] = "KVM_SET_SREGS",
}
local TUN_IOCTLS = {
  [0x400454c8] = "TUNSETNOCSUM", [0x400454c9] = "TUNSETDEBUG", [0x400454ca] = "TUNSETIFF",
  [0x400454cb] = "TUNSETPERSIST", [0x400454cc] = "TUNSETOWNER", [0x400454cd] = "TUNSETLINK",
  [0x400454ce] = "TUNSETGROUP", [0x800454cf] = "TUNGETFEATURES", [0x400454d0] = "TUNSETOFFLOAD",
  [0x400454d1] = "TUNSETTXFILTER", [0x800454d2] = "TUNGETIFF", [0x800454d3] = "TUNGETSNDBUF",
  [0x400454d4] = "TUNSETSNDBUF", [0x401054d5] = "TUNATTACHFILTER", [0x401054d6] = "TUNDETACHFILTER",
  [0x800454d7] = "TUNGETVNETHDRSZ", [0x400454d8] = "TUNSETVNETHDRSZ", [0x400454d9] = "TUNSETQUEUE",
  [0x400454da] = "TUNSETIFINDEX", [0x801054db] = "TUNGETFILTER", [0x400454dc] = "TUNSETVNETLE",
  [0x800454dd] = "TUNGETVNETLE", [0x400454de] = "TUNSETVNETBE", [0x800454df] = "TUNGETVNETBE",
  [0x800454e0] = "TUNSETSTEERINGEBPF", [0x800454e1] = "TUNSETFILTEREBPF", [0x400454e2] = "TUNSETCARRIER",
  [0x000054e3] = "TUNGETDEVNETNS",
}
-- linux include/uapi/linux/vfio.h.
local VFIO_IOCTLS = {
  [0x00003b64] = "VFIO_GET_API_VERSION", [0x00003b65] = "VFIO_CHECK_EXTENSION", [0x00003b66] = "VFIO_SET_IOMMU",
  [0x00003b67] = "VFIO_GROUP_GET_STATUS", [0x00003b68] = "VFIO_GROUP_SET_CONTAINER",
  [0x00003b6a] = "VFIO_GROUP_GET_DEVICE_FD", [0x00003b6b] = "VFIO_DEVICE_GET_INFO",
  [0x00003b6c] = "VFIO_DEVICE_GET_REGION_INFO", [0x00003b6d] = "VFIO_DEVICE_GET_IRQ_INFO",
  [0x00003b6e] = "VFIO_DEVICE_SET_IRQS", [0x00003b6f] = "VFIO_DEVICE_RESET", [0x00003b70] = "VFIO_IOMMU_GET_INFO",
  [0x00003b71] = "VFIO_IOMMU_MAP_DMA", [0x00003b72] = "VFIO_IOMMU_UNMAP_DMA",
}
-- linux include/uapi/linux/vhost_types.h, struct vhost_iotlb_msg.
local IOTLB_TYPES = {
  [1] = "VHOST_IOTLB_MISS", [2] = "VHOST_IOTLB_UPDATE", [3] = "VHOST_IOTLB_INVALIDATE", [4] = "VHOST_IOTLB_ACCESS_FAIL",
  [5] = "VHOST_IOTLB_BATCH_BEGIN", [6] = "VHOST_IOTLB_BATCH_END",
}
local IOTLB_PERMISSIONS = { [0] = "none", [1] = "read", [2] = "write", [3] = "read and write" }
-- virtio 1.2 section 2.1: bit, filter name, name.
local STATUS_BITS = {
  { 1, "acknowledge", "ACKNOWLEDGE" }, { 2, "driver", "DRIVER" }, { 4, "driver_ok", "DRIVER_OK" },
  { 8, "features_ok", "FEATURES_OK" }, { 0x40, "needs_reset", "DEVICE_NEEDS_RESET" }, { 0x80, "failed", "FAILED" },
}
-- virtio 1.2 section 4.1.4; the others are PCI's own.
local CAPABILITIES = { [0x01] = "power management", [0x05] = "MSI", [0x09] = "vendor-specific", [0x10] = "PCI Express",
  [0x11] = "MSI-X" }
local CFG_TYPES = { [1] = "VIRTIO_PCI_CAP_COMMON_CFG", [2] = "VIRTIO_PCI_CAP_NOTIFY_CFG", [3] = "VIRTIO_PCI_CAP_ISR_CFG",
  [4] = "VIRTIO_PCI_CAP_DEVICE_CFG", [5] = "VIRTIO_PCI_CAP_PCI_CFG" }
local DATA_TYPES = { [0] = "none", [1] = "frame", [2] = "virtqueue descriptors", [3] = "vhost-user message",
  [4] = "vhost IOTLB message", [5] = "argument of an ioctl", [6] = "vhost-user back-end message" }

-- ---- fields -----------------------------------------------------------------------------------------------------

local all = {}
local function keep(field)
  all[#all + 1] = field
  return field
end
local function text(name, title, about)
  return keep(ProtoField.string("ringside." .. name, title, base.UNICODE, about))
end
local function number(name, title, about)
  return keep(ProtoField.uint64("ringside." .. name, title, base.DEC, nil, nil, about))
end
local function u8(name, title, shown, names)
  return keep(ProtoField.uint8("ringside." .. name, title, shown or base.DEC, names))
end
local function u16(name, title, shown, names)
  return keep(ProtoField.uint16("ringside." .. name, title, shown or base.DEC, names))
end
local function u32(name, title, shown, names)
  return keep(ProtoField.uint32("ringside." .. name, title, shown or base.DEC, names))
end
local function u64(name, title, shown)
  return keep(ProtoField.uint64("ringside." .. name, title, shown or base.HEX))
end
local function flag(name, title, width, mask)
  return keep(ProtoField.bool("ringside." .. name, title, width, nil, mask))
end

-- Of every row.
local f = {
  text = text("text", "What happened"),
  hop = text("hop", "Hop", "Place that saw the frame, or at which the event happened"),
  event = text("event", "Event", "Kind of event"),
  ctx = text("ctx", "Context", "Whose CPU time it was: a vCPU, QEMU, a vhost worker, a PMD"),
  ns = number("ns", "Virtual time (ns)", "Nanoseconds since the world began"),
  cost = number("cost", "Cost (ns)", "Virtual time that this frame was worked on since its previous row"),
  wait = number("wait", "Wait (ns)", "Virtual time that this frame waited since its previous row"),
  copy = number("copy", "Copied bytes", "Bytes that host CPUs copied since the frame's previous row"),
  copies = number("copies", "Copies", "Copies by host CPUs since the frame's previous row"),
  exit = text("exit", "VM exit", "An exit charged to this row, with who answered it"),
  exits = number("exits", "VM exits", "Number of exits charged to this row"),
  kick = number("kick", "Kicks", "Available buffer notifications charged to this row"),
  irq = number("irq", "Interrupts", "Interrupts charged to this row"),
  cache = text("cache", "Cache", "Where the datapath found the flow"),
  drop = text("drop", "Drop reason"),
  parent = number("parent", "Parent frame", "Frame that this one is a copy or a segment of"),
  seq = number("seq", "Sequence number", "Number of the event in the world's recording"),
  frame = number("frame", "Frame id", "The same at every hop of one frame"),
  queue = number("queue", "Queue", "Index of the virtqueue"),
}

-- Regions of registers in accesses of a client or driver (cfg_type of the capability where it has one).
local REGIONS = { "common", "notify", "isr", "device", "pci", "msix", "legacy", "mmio" }

-- Of event rows.
local e = {
  version = u8("header.version", "Version"),
  flags = u8("header.flags", "Flags", base.HEX),
  length = u16("header.length", "Header length"),
  kind = u16("header.kind", "Kind number"),
  place = u16("header.place", "Place number"),
  context = u16("header.context", "Context number"),
  data_type = u8("header.data_type", "Data type", base.DEC, DATA_TYPES),
  malformed = text("malformed", "Cannot be read on"),
  a = u64("a", "First value", base.DEC),
  b = u32("b", "Second value"),
  bytes = u32("bytes", "Bytes"),
}
local q = {
  head = u32("virtq.head", "Head"),
  entries = u32("virtq.entries", "Entries"),
  avail_idx = u32("virtq.avail_idx", "avail_idx"),
  last_avail_idx = u32("virtq.last_avail_idx", "last_avail_idx"),
  used_idx = u32("virtq.used_idx", "used_idx"),
  avail_event = u32("virtq.avail_event", "avail_event"),
  used_event = u32("virtq.used_event", "used_event"),
  queue = u32("virtq.queue", "Queue"),
  size = u32("virtq.size", "Queue size"),
  num_free = u32("virtq.num_free", "num_free"),
  code = u32("virtq.code", "Error code"),
  value = u32("virtq.value", "Refused value"),
}
local d = {
  index = u16("desc.index", "Index"),
  addr = u64("desc.addr", "addr"),
  len = u32("desc.len", "len"),
  flags = u16("desc.flags", "flags", base.HEX),
  next_flag = flag("desc.flags.next", "VIRTQ_DESC_F_NEXT", 16, 1),
  write_flag = flag("desc.flags.write", "VIRTQ_DESC_F_WRITE", 16, 2),
  indirect_flag = flag("desc.flags.indirect", "VIRTQ_DESC_F_INDIRECT", 16, 4),
  next = u16("desc.next", "next"),
}
local x = {
  reason = text("exit.reason", "Exit reason"),
  by = text("exit.handled_by", "Handled by", "kernel, or userspace"),
  address = u32("exit.address", "Guest address", base.HEX),
  value = u32("exit.value", "Value"),
  vector = u32("irq.vector", "Vector"),
  line = u32("irq.line", "Interrupt line"),
  level = u32("irq.level", "Level"),
  method = text("irq.method", "Method", "How the interrupt came or is taken"),
  pending = u32("irq.pending", "Pending vectors", base.HEX),
  counter = u32("eventfd.counter", "Counter"),
  core = u32("sched.core", "Core"),
  syscall = u32("sched.syscall", "System call"),
  exit_reason = u32("kvm.exit_reason", "exit_reason", base.DEC, EXIT_REASONS),
  errno = u32("kvm.errno", "errno"),
  fd = u32("kvm.fd", "Descriptor"),
  polled = u32("kvm.halt_poll.ns", "Polled (ns)"),
  halt_poll_ns = u32("kvm.halt_poll.halt_poll_ns", "halt_poll_ns"),
  phase = u32("qemu.phase", "Phase", base.DEC, QEMU_PHASES),
  number = u32("qemu.nic", "NIC"),
  timer = u32("qemu.tx_timer.ns", "Timer (ns)"),
}
local vu = {
  request = u32("vhost_user.request", "Request", base.DEC, REQUESTS),
  payload_bytes = u32("vhost_user.payload_bytes", "Payload bytes"),
  flags = u32("vhost_user.flags", "Flags", base.HEX),
  version = keep(ProtoField.uint32("ringside.vhost_user.flags.version", "Version", base.DEC, nil, 3)),
  reply = flag("vhost_user.flags.reply", "Reply", 32, 4),
  need_reply = flag("vhost_user.flags.need_reply", "Reply wanted", 32, 8),
  size = u32("vhost_user.size", "Payload size"),
  u64 = u64("vhost_user.u64", "Value"),
  ack = u64("vhost_user.ack", "Result (0 = done)", base.DEC),
  protocol_feature = text("vhost_user.protocol_feature", "Protocol feature"),
  vring = u8("vhost_user.vring", "Ring"),
  nofd = flag("vhost_user.vring.nofd", "No descriptor comes along", 16, 0x100),
  index = u32("vhost_user.vring.index", "index"),
  num = u32("vhost_user.vring.num", "num"),
  vring_flags = u32("vhost_user.vring.flags", "flags", base.HEX),
  desc = u64("vhost_user.vring.desc_user_addr", "desc_user_addr"),
  used = u64("vhost_user.vring.used_user_addr", "used_user_addr"),
  avail = u64("vhost_user.vring.avail_user_addr", "avail_user_addr"),
  log = u64("vhost_user.vring.log_guest_addr", "log_guest_addr"),
  nregions = u32("vhost_user.nregions", "Regions"),
  gpa = u64("vhost_user.region.guest_phys_addr", "guest_phys_addr"),
  memory_size = u64("vhost_user.region.memory_size", "memory_size"),
  uva = u64("vhost_user.region.userspace_addr", "userspace_addr"),
  offset = u64("vhost_user.region.mmap_offset", "mmap_offset"),
  log_size = u64("vhost_user.log.mmap_size", "mmap_size"),
  log_offset = u64("vhost_user.log.mmap_offset", "mmap_offset"),
}
local tlb = {
  iova = u64("iotlb.iova", "iova"),
  size = u64("iotlb.size", "size"),
  uaddr = u64("iotlb.uaddr", "uaddr"),
  perm = u8("iotlb.perm", "perm", base.DEC, IOTLB_PERMISSIONS),
  type = u8("iotlb.type", "type", base.DEC, IOTLB_TYPES),
}
local setup = {
  vhost = u32("vhost.ioctl", "ioctl", base.HEX, VHOST_IOCTLS),
  kvm = u32("kvm.ioctl", "ioctl", base.HEX, KVM_IOCTLS),
  tap = u32("tap.ioctl", "ioctl", base.HEX, TUN_IOCTLS),
  argument = u32("ioctl.argument", "Argument (first 32 bits)", base.HEX),
  result = keep(ProtoField.int32("ringside.ioctl.result", "Result")),
  feature = text("feature", "Feature"),
  word = keep(ProtoField.uint32("ringside.features.word", "Word", base.DEC, nil, 0x7fffffff)),
  accepted = flag("features.accepted", "Accepted by the driver", 32, 0x80000000),
  bits = u32("features.bits", "Bits", base.HEX),
  status = u8("virtio.status", "Device status", base.HEX),
  shown = u8("virtio.accepted_status", "Status that the device then shows", base.HEX),
  cap_offset = u32("pci.capability.offset", "Offset", base.HEX),
  cap_id = u8("pci.capability.id", "Capability", base.HEX, CAPABILITIES),
  cfg_type = u8("pci.capability.cfg_type", "cfg_type", base.DEC, CFG_TYPES),
}
for _, bit in ipairs(STATUS_BITS) do
  bit.field = flag("virtio.status." .. bit[2], bit[3], 8, bit[1])
end
local g = {
  access = u32("register.access", "Register", base.HEX),
  region = keep(ProtoField.uint32("ringside.register.region", "Region", base.DEC, REGIONS, 0xff000000)),
  offset = keep(ProtoField.uint32("ringside.register.offset", "Offset", base.HEX, nil, 0xffffff)),
  value = u32("register.value", "Value", base.HEX),
  command = u32("ctrl.command", "Class and command", base.HEX),
  ack = u32("ctrl.ack", "Acknowledgement"),
  reason = u32("virtio.reason", "Reason"),
  status = u32("virtio.config_status", "Link status", base.HEX),
  generation = u32("virtio.config_generation", "config_generation"),
  segments = u32("packet.segments", "Segments"),
  gso_size = u32("packet.gso_size", "gso_size"),
  checksum = u32("packet.checksum", "Checksum", base.HEX),
  sequence = u32("tcp.sequence", "Sequence number"),
  state = u32("tcp.state", "State"),
  local_port = u32("tcp.local_port", "Local port"),
  cwnd = u32("tcp.cwnd", "Congestion window (bytes)"),
  ssthresh = u32("tcp.ssthresh", "Slow start threshold (bytes)"),
}
local c = {
  ring = u32("ring", "Ring"),
  position = u32("ring.base", "Position", base.HEX),
  errno = keep(ProtoField.int32("ringside.errno", "errno")),
  before = u32("netdev.before", "Back-end before"),
  after = u32("netdev.after", "Back-end after"),
  page = u32("iommu.page", "I/O virtual page", base.HEX),
  pages = u32("iommu.pages", "Pages of 4 KiB"),
  descriptor = u32("iommu.descriptor", "Descriptor type and granularity", base.HEX),
  status_data = u32("iommu.status_data", "Status data"),
  waited = u32("iommu.waited", "Waited (ns)"),
  fault = u32("iommu.fault", "Reason and source", base.HEX),
  perm = u32("iotlb.access", "Access", base.DEC, IOTLB_PERMISSIONS),
  entries = u32("iotlb.entries", "Entries"),
  unmapped = u32("iommu.unmapped", "Buffers"),
  timed = u32("iommu.by_timer", "By its timer"),
  offset = u32("iommu.register", "Register", base.HEX),
  side = u32("socket.side", "Side"),
  reason = u32("socket.reason", "Reason"),
  state = u32("ring.state", "State"),
  mac = u32("rarp.mac", "MAC address (last 32 bits)", base.HEX),
  file = u32("vfio.file", "File"),
  vfio = u32("vfio.ioctl", "ioctl", base.HEX, VFIO_IOCTLS),
  phase = u32("dpdk.phase", "Phase"),
  mbufs = u32("dpdk.mbufs", "mbufs"),
  mbuf_bytes = u32("dpdk.mbuf_bytes", "Bytes of an mbuf"),
  free = u32("dpdk.free", "Free mbufs"),
  lcore = u32("dpdk.lcore", "lcore"),
  queue_pairs = u32("dpdk.queue_pairs", "Queue pairs"),
  rx_descriptors = u32("dpdk.rx_descriptors", "Receive descriptors"),
  tx_descriptors = u32("dpdk.tx_descriptors", "Transmit descriptors"),
  parent = u32("duplicate.parent", "Frame that was sent before"),
  id = u32("fault.id", "Fault"),
  times = u32("fault.times", "Times"),
  lost = u32("crash.lost", "Frames lost"),
  again = u32("crash.again", "Frames to be sent again"),
  connection = u32("reconnect.connection", "Connection"),
  tries = u32("reconnect.tries", "Tries in vain"),
}
local o = {
  port = u32("port", "Port"),
  probed = u32("dp.probed", "Masks or subtables probed"),
  flow = u32("dp.flow", "Flow"),
  occupancy = u32("occupancy", "Occupancy of the queue"),
  run = u32("run", "Traffic run"),
}
ringside.fields = all

-- ---- values -----------------------------------------------------------------------------------------------------

-- A decimal as it stands in a comment; nil where it is none, or does not fit 64 bits for certain.
local function natural(digits)
  if #digits > 19 or digits:find("%D") then return nil end
  -- Exact in the numbers of Lua 5.2.
  return UInt64(#digits < 16 and tonumber(digits) or digits)
end

-- Is the bit with value `value` set? (Lua 5.2 has no operators for it.)
local function has(word, value)
  return math.floor(word / value) % 2 == 1
end

-- Bytes [at, at + length) where all of them were captured, else nil.
local function bytes_at(tvb, at, length)
  if at >= 0 and length > 0 and at + length <= tvb:len() then return tvb(at, length) end
  return nil
end

-- Adds a little-endian field; false where the bytes are not there.
local function add(tree, tvb, field, at, length)
  local range = bytes_at(tvb, at, length)
  if range == nil then return false end
  tree:add_le(field, range)
  return true
end

-- One instance of `field` for each bit that is set, with the names of the bits.
local function add_bits(tree, range, field, low, high, names)
  local found = {}
  for bit = 0, 63 do
    local word, at = low, bit
    if bit > 31 then word, at = high, bit - 32 end
    if has(word, 2 ^ at) then
      local name = names[bit] or ("bit " .. bit)
      tree:add(field, range, name)
      found[#found + 1] = name
    end
  end
  return found
end

-- ---- comments ---------------------------------------------------------------------------------------------------

local frame_comment = Field.new("frame.comment")
local frame_packet_id = Field.new("frame.packet_id")
local frame_queue = Field.new("frame.interface_queue")

-- Keys in the order of the tree: how they stand in the comment, their fields, whether they are numbers.
local KEYS = {}
for _, name in ipairs({ "hop", "event", "ctx", "cache", "drop" }) do
  KEYS[#KEYS + 1] = { name = name, word = " " .. name .. "=", field = f[name], number = false }
end
for _, name in ipairs({ "ns", "cost", "wait", "copy", "copies", "exits", "kick", "irq", "parent", "seq" }) do
  KEYS[#KEYS + 1] = { name = name, word = " " .. name .. "=", field = f[name], number = true }
end

-- What the event dissector has added for the row that is being read; those keys of its comment say the same again.
local told = nil
local NOTHING = {}

-- Value of the word ` key=` at or after `from`; nil where there is none.
local function value_of(comment, word, from)
  local _, last = comment:find(word, from, true)
  if last == nil then return nil end
  return comment:match("^%S+", last + 1)
end

-- Fields of one comment; those only that a filter, a column or an open tree asks for. Most rows are read for a filter.
local function add_comment(row, all, comment, from, known)
  if all or row:referenced(f.text) then row:add(f.text, comment:sub(1, from - 1)) end
  for i = 1, #KEYS do
    local key = KEYS[i]
    if not known[key.name] and (all or row:referenced(key.field)) then
      local value = value_of(comment, key.word, from)
      if value ~= nil and key.number then value = natural(value) end
      if value ~= nil then row:add(key.field, value) end
    end
  end
  if not known.exit and (all or row:referenced(f.exit)) then
    for name in (value_of(comment, " exit=", from) or ""):gmatch("[^,]+") do row:add(f.exit, name) end
  end
end

function ringside.dissector(_, _, tree)
  local known = told or NOTHING
  told = nil
  local all = tree.visible
  local row = nil
  for _, info in ipairs({ frame_comment() }) do
    local comment = info.value
    -- Other people's comments have no ` | hop=`. The words begin at its bar.
    local bar = comment:find(" | hop=", 1, true)
    if bar ~= nil and bar > 1 and comment:find("^%S", bar + 7) then
      row = row or tree:add(ringside)
      if all then row:append_text(": " .. comment:sub(1, bar - 1)) end
      add_comment(row, all, comment, bar, known)
    end
  end
  if row == nil then return end
  if not known.frame and (all or row:referenced(f.frame)) then
    local id = frame_packet_id()
    if id ~= nil then row:add(f.frame, id.value) end
  end
  if all or row:referenced(f.queue) then
    local queue = frame_queue()
    if queue ~= nil then row:add(f.queue, UInt64(queue.value)) end
  end
  if all then row:set_generated() end
end
register_postdissector(ringside)

-- ---- data of event rows -----------------------------------------------------------------------------------------

-- Descriptors of a chain: index in the table, then struct virtq_desc (virtio 1.2 section 2.7.5).
local function add_descriptors(tvb, tree, at)
  local count = 0
  while bytes_at(tvb, at, 18) do
    local branch = tree:add(event_row, tvb(at, 18))
    local flags = tvb(at + 14, 2):le_uint()
    local names = ""
    if has(flags, 1) then names = names .. " NEXT" end
    if has(flags, 2) then names = names .. " WRITE" end
    if has(flags, 4) then names = names .. " INDIRECT" end
    branch:set_text("Descriptor " .. tvb(at, 2):le_uint() .. ": " .. tvb(at + 10, 4):le_uint() .. " bytes" .. names)
    add(branch, tvb, d.index, at, 2)
    add(branch, tvb, d.addr, at + 2, 8)
    add(branch, tvb, d.len, at + 10, 4)
    local word = branch:add_le(d.flags, tvb(at + 14, 2))
    add(word, tvb, d.next_flag, at + 14, 2)
    add(word, tvb, d.write_flag, at + 14, 2)
    add(word, tvb, d.indirect_flag, at + 14, 2)
    add(branch, tvb, d.next, at + 16, 2)
    at = at + 18
    count = count + 1
  end
  return at == tvb:len() and at or nil, count .. (count == 1 and " descriptor" or " descriptors")
end

local function add_iotlb(tvb, tree, at)
  if bytes_at(tvb, at, 32) == nil then return nil end
  add(tree, tvb, tlb.iova, at, 8)
  add(tree, tvb, tlb.size, at + 8, 8)
  add(tree, tvb, tlb.uaddr, at + 16, 8)
  add(tree, tvb, tlb.perm, at + 24, 1)
  add(tree, tvb, tlb.type, at + 25, 1)
  local kind = tvb(at + 25, 1):uint()
  return at + 32, IOTLB_TYPES[kind] or ("IOTLB type " .. kind)
end

local function add_feature_word(tvb, tree, at)
  local range = bytes_at(tvb, at, 8)
  if range == nil then return nil end
  add_bits(tree:add_le(vu.u64, range), range, setup.feature, tvb(at, 4):le_uint(), tvb(at + 4, 4):le_uint(), FEATURES)
  return at + 8
end
local function add_protocol_features(tvb, tree, at)
  local range = bytes_at(tvb, at, 8)
  if range == nil then return nil end
  local low, high = tvb(at, 4):le_uint(), tvb(at + 4, 4):le_uint()
  add_bits(tree:add_le(vu.u64, range), range, vu.protocol_feature, low, high, PROTOCOL_FEATURES)
  return at + 8
end
local function add_status_byte(tvb, tree, at)
  if bytes_at(tvb, at, 1) == nil then return nil, {} end
  local value, names = tvb(at, 1):uint(), {}
  local branch = tree:add(setup.status, tvb(at, 1))
  for _, bit in ipairs(STATUS_BITS) do
    branch:add(bit.field, tvb(at, 1))
    if has(value, bit[1]) then names[#names + 1] = bit[3] end
  end
  return at + 1, names
end
local function add_status_word(tvb, tree, at)
  if bytes_at(tvb, at, 8) == nil then return nil end
  local _, names = add_status_byte(tvb, tree, at)
  return at + 8, table.concat(names, " ")
end
local function add_word(tvb, tree, at)
  if not add(tree, tvb, vu.u64, at, 8) then return nil end
  return at + 8
end
local function add_ack(tvb, tree, at)
  if not add(tree, tvb, vu.ack, at, 8) then return nil end
  return at + 8
end
-- SET_VRING_KICK, CALL and ERR: ring in bits 0-7, bit 8 says that no descriptor comes along.
local function add_vring_fd(tvb, tree, at)
  if bytes_at(tvb, at, 8) == nil then return nil end
  add(tree, tvb, vu.vring, at, 1)
  add(tree, tvb, vu.nofd, at, 2)
  return at + 8, "ring " .. tvb(at, 1):uint()
end
local function add_vring_state(tvb, tree, at)
  if not (add(tree, tvb, vu.index, at, 4) and add(tree, tvb, vu.num, at + 4, 4)) then return nil end
  return at + 8, "ring " .. tvb(at, 4):le_uint() .. ": " .. tvb(at + 4, 4):le_uint()
end
local function add_vring_addr(tvb, tree, at)
  if bytes_at(tvb, at, 40) == nil then return nil end
  add(tree, tvb, vu.index, at, 4)
  add(tree, tvb, vu.vring_flags, at + 4, 4)
  add(tree, tvb, vu.desc, at + 8, 8)
  add(tree, tvb, vu.used, at + 16, 8)
  add(tree, tvb, vu.avail, at + 24, 8)
  add(tree, tvb, vu.log, at + 32, 8)
  return at + 40, "ring " .. tvb(at, 4):le_uint()
end
local function add_region(tvb, tree, at, number_of)
  local range = bytes_at(tvb, at, 32)
  if range == nil then return nil end
  local branch = tree:add(event_row, range)
  branch:set_text("Region " .. number_of)
  add(branch, tvb, vu.gpa, at, 8)
  add(branch, tvb, vu.memory_size, at + 8, 8)
  add(branch, tvb, vu.uva, at + 16, 8)
  add(branch, tvb, vu.offset, at + 24, 8)
  return at + 32
end
local function add_mem_table(tvb, tree, at)
  if bytes_at(tvb, at, 8) == nil then return nil end
  add(tree, tvb, vu.nregions, at, 4)
  local count = tvb(at, 4):le_uint()
  at = at + 8
  for i = 1, count do
    local after = add_region(tvb, tree, at, i - 1)
    -- However many the head promises: the row ends the loop.
    if after == nil then return nil end
    at = after
  end
  return at, count .. (count == 1 and " region" or " regions")
end
-- ADD_MEM_REG and REM_MEM_REG: 8 bytes of padding, then one region.
local function add_one_region(tvb, tree, at)
  return add_region(tvb, tree, at + 8, 0)
end
local function add_log(tvb, tree, at)
  if not (add(tree, tvb, vu.log_size, at, 8) and add(tree, tvb, vu.log_offset, at + 8, 8)) then return nil end
  return at + 16
end

-- Payload by request: of the front-end's message, and of the reply that always comes. Other replies are acknowledgements.
local SENT = {
  [2] = add_feature_word, [5] = add_mem_table, [6] = add_log, [8] = add_vring_state, [9] = add_vring_addr,
  [10] = add_vring_state, [11] = add_vring_state, [12] = add_vring_fd, [13] = add_vring_fd, [14] = add_vring_fd,
  [16] = add_protocol_features, [18] = add_vring_state, [19] = add_word, [20] = add_word, [22] = add_iotlb,
  [23] = add_vring_state, [35] = add_vring_state, [37] = add_one_region, [38] = add_one_region, [39] = add_status_word,
}
local REPLIED = {
  [1] = add_feature_word, [11] = add_vring_state, [15] = add_protocol_features, [17] = add_word, [36] = add_word,
  [40] = add_status_word, [43] = add_word,
}

-- A vhost-user message: struct of 12 bytes, then the payload. Returns where it ends and what the Info column says.
local function add_vhost_user(tvb, tree, at)
  if bytes_at(tvb, at, 12) == nil then return nil end
  local request, flags, size = tvb(at, 4):le_uint(), tvb(at + 4, 4):le_uint(), tvb(at + 8, 4):le_uint()
  local name = REQUESTS[request] or ("request " .. request)
  local branch = tree:add(event_row, tvb(at))
  branch:set_text("vhost-user: " .. name .. (has(flags, 4) and " (reply)" or ""))
  add(branch, tvb, vu.request, at, 4)
  local word = branch:add_le(vu.flags, tvb(at + 4, 4))
  add(word, tvb, vu.version, at + 4, 4)
  add(word, tvb, vu.reply, at + 4, 4)
  add(word, tvb, vu.need_reply, at + 4, 4)
  add(branch, tvb, vu.size, at + 8, 4)
  local add_payload = SENT[request]
  if has(flags, 4) then
    add_payload = REPLIED[request] or add_ack
    name = name .. " reply"
  end
  if size == 0 or add_payload == nil then return at + 12, name end
  local after, detail = add_payload(tvb, branch, at + 12)
  if detail ~= nil then name = name .. ": " .. detail end
  return after, name
end

local ethernet = Dissector.get("eth_withoutfcs")
local function add_frame(tvb, pinfo, tree, at)
  local range = bytes_at(tvb, at, tvb:len() - at)
  if range == nil then return end
  -- A frame that was cut short makes the dissectors below raise; the event itself is whole.
  pcall(ethernet.call, ethernet, range:tvb(), pinfo, tree)
end

-- ---- event rows -------------------------------------------------------------------------------------------------

-- By event: the fields of columns a (32 bits of it) and b; false where unused.
local COLUMNS = {
  ["guest.xmit"] = { e.bytes, false }, ["guest.rx"] = { e.bytes, q.head }, ["guest.irq"] = { x.vector, false },
  ["guest.txq_stop"] = { q.num_free, false }, ["guest.txq_wake"] = { q.num_free, false },
  ["virtq.descriptors"] = { false, e.bytes }, ["vhost.user_message"] = { false, e.bytes },
  ["packet.bytes"] = { false, e.bytes }, ["virtq.avail"] = { q.head, q.avail_idx }, ["virtq.avail_idx"] = { q.entries, q.avail_idx },
  ["virtq.pop"] = { q.head, q.last_avail_idx }, ["virtq.used"] = { e.bytes, q.head },
  ["virtq.tx_used"] = { q.head, q.used_idx }, ["virtq.used_idx"] = { q.entries, q.used_idx },
  ["virtq.kick"] = { q.queue, q.avail_idx }, ["virtq.kick_suppressed"] = { q.avail_event, q.avail_idx },
  ["virtq.interrupt"] = { q.used_event, q.used_idx }, ["virtq.interrupt_suppressed"] = { q.used_event, q.used_idx },
  ["virtq.kicks_on"] = { false, q.avail_event }, ["virtq.kicks_off"] = { false, false },
  ["virtq.interrupts_on"] = { false, q.used_event }, ["virtq.interrupts_off"] = { false, false },
  ["virtq.reclaim"] = { q.head, q.used_idx }, ["virtq.error"] = { q.code, q.value },
  ["virtq.bad_chain"] = { q.code, false }, ["virtq.rx_empty"] = { false, q.last_avail_idx },
  ["virtq.reset"] = { q.queue, false }, ["virtq.client_rx"] = { e.bytes, q.head },
  ["kvm.exit_ept_misconfig_kernel"] = { x.address, x.value }, ["kvm.exit_ept_misconfig_user"] = { x.address, x.value },
  ["kvm.exit_hlt"] = { false, false }, ["kvm.exit_external_interrupt"] = { x.vector, false },
  ["kvm.exit_io_kernel"] = { x.address, x.value }, ["kvm.irq_line"] = { x.line, x.level },
  ["kvm.exit_io_user"] = { x.address, x.value }, ["kvm.irqfd"] = { x.vector, false },
  ["kvm.signal_msi"] = { x.vector, false }, ["kvm.entry"] = { x.pending, false },
  ["kvm.ioctl_argument"] = { false, e.bytes }, ["kvm.ioctl_result"] = { setup.kvm, setup.result },
  ["kvm.userspace_exit"] = { x.exit_reason, x.errno }, ["kvm.run"] = { x.fd, false }, ["kvm.open"] = { x.fd, false },
  ["kvm.halt_poll_success"] = { x.polled, x.halt_poll_ns }, ["kvm.halt_poll_fail"] = { x.polled, x.halt_poll_ns },
  ["kvm.posted_interrupt"] = { x.vector, false }, ["qemu.phase"] = { x.phase, false },
  ["qemu.device_realize"] = { x.number, false }, ["qemu.device_reset"] = { x.number, false },
  ["qemu.tx_timer"] = { x.timer, false },
  ["kvm.ioctl"] = { setup.kvm, setup.argument }, ["eventfd.signal"] = { x.counter, false },
  ["eventfd.read"] = { x.counter, false }, ["sched.switch"] = { x.core, false }, ["sched.syscall"] = { x.syscall, false },
  ["packet.born"] = { e.bytes, o.run }, ["packet.copy"] = { e.bytes, false }, ["packet.dma"] = { e.bytes, false },
  ["tap.xmit"] = { e.bytes, false }, ["tap.enqueue"] = { e.bytes, o.occupancy },
  ["tap.dequeue"] = { e.bytes, o.occupancy }, ["dp.ingress"] = { e.bytes, o.port }, ["dp.output"] = { e.bytes, o.port },
  ["dp.hit"] = { o.probed, o.flow }, ["dp.emc_hit"] = { false, o.flow }, ["dp.megaflow_hit"] = { o.probed, o.flow },
  ["dp.miss"] = { o.probed, o.port }, ["dp.emc_insert"] = { false, o.flow }, ["dp.upcall_copy"] = { e.bytes, false },
  ["br.forward"] = { e.bytes, o.port },
  ["qemu.ring_stop"] = { c.ring, c.position }, ["qemu.ring_start"] = { c.ring, c.position },
  ["qemu.vhost_fallback"] = { c.errno, false }, ["qemu.netdev"] = { c.before, c.after },
  ["qemu.backend_back"] = { c.connection, c.tries }, ["vhost_user.backend_dead"] = { c.lost, c.again },
  ["iommu.map"] = { c.page, e.bytes }, ["iommu.unmap"] = { c.page, e.bytes },
  ["iommu.invalidate"] = { c.descriptor, c.page }, ["iommu.wait_done"] = { c.status_data, c.waited },
  ["iommu.fault"] = { c.fault, c.page }, ["iommu.flush"] = { c.unmapped, c.timed },
  ["iommu.register"] = { c.offset, x.value }, ["iotlb.miss"] = { c.page, c.perm },
  ["iotlb.update"] = { c.page, e.bytes }, ["iotlb.invalidate"] = { c.page, c.pages },
  ["iotlb.evict"] = { c.page, c.entries }, ["vfio.dma"] = { c.page, c.pages }, ["vfio.open"] = { x.fd, c.file },
  ["vfio.ioctl"] = { c.vfio, setup.argument }, ["vfio.ioctl_argument"] = { false, e.bytes },
  ["vhost.ioctl_argument"] = { false, e.bytes }, ["vhost.ioctl_result"] = { setup.vhost, setup.result },
  ["tap.ioctl_argument"] = { false, e.bytes }, ["tap.ioctl_result"] = { setup.tap, setup.result },
  ["vfio.ioctl_result"] = { c.vfio, setup.result }, ["vhost.socket_listen"] = { c.side, false },
  ["vhost.socket_connect"] = { c.side, false }, ["vhost.socket_close"] = { c.reason, vu.request },
  ["vhost.backend_request"] = { vu.request, vu.payload_bytes },
  ["vhost.backend_reply"] = { vu.request, vu.payload_bytes }, ["vhost.backend_message"] = { false, e.bytes },
  ["vhost.ring_state"] = { c.ring, c.state }, ["vhost_user.rarp"] = { c.mac, false },
  ["dpdk.eal"] = { c.phase, false }, ["dpdk.mempool"] = { c.mbufs, c.mbuf_bytes },
  ["dpdk.rx_nombuf"] = { c.mbufs, c.free }, ["dpdk.lcore"] = { c.lcore, c.queue_pairs },
  ["dpdk.port"] = { c.rx_descriptors, c.tx_descriptors }, ["packet.duplicate"] = { c.parent, e.bytes },
  ["fault.begin"] = { c.id, c.times }, ["fault.end"] = { c.id, c.times }, ["fault.kick_lost"] = { c.id, false },
  ["fault.interrupt_lost"] = { c.id, false },
  ["nic.tx"] = { e.bytes, o.occupancy }, ["nic.rx"] = { e.bytes, o.occupancy },
  ["vhost.ioctl"] = { setup.vhost, setup.argument }, ["tap.ioctl"] = { setup.tap, setup.argument },
  ["vhost.user_request"] = { vu.request, vu.payload_bytes }, ["vhost.user_reply"] = { vu.request, vu.payload_bytes },
  ["virtio.queue_enable"] = { q.queue, q.size }, ["virtio.queue_reset"] = { q.queue, false },
  ["virtio.needs_reset"] = { g.reason, q.queue }, ["virtio.config_change"] = { g.generation, g.status },
  ["guest.memory_write"] = { x.address, e.bytes }, ["virtio_net.ctrl"] = { g.command, g.ack },
  ["virtio_net.ctrl_sent"] = { g.command, e.bytes }, ["packet.segmented"] = { g.segments, g.gso_size },
  ["packet.checksum"] = { e.bytes, g.checksum }, ["tcp.retransmit"] = { g.sequence, e.bytes },
  ["tcp.cwnd"] = { g.cwnd, g.ssthresh }, ["guest.app_wake"] = { g.local_port, false },
  ["guest.app_read"] = { e.bytes, g.local_port },
  ["tcp.state"] = { g.state, g.local_port }, ["traffic.start"] = { o.run, false },
  ["traffic.end"] = { o.run, false },
}

-- Reason and who answered, by the event's name without `kvm.exit_`.
local EXITS = {
  ept_misconfig_kernel = { "EPT_MISCONFIG", "kernel" }, ept_misconfig_user = { "EPT_MISCONFIG", "userspace" },
  hlt = { "HLT", "kernel" }, external_interrupt = { "EXTERNAL_INTERRUPT", "kernel" },
  io_user = { "IO_INSTRUCTION", "userspace" }, io_kernel = { "IO_INSTRUCTION", "kernel" },
}
local METHODS = {
  ["kvm.irqfd"] = "irqfd: an eventfd became an MSI in the kernel",
  ["kvm.signal_msi"] = "KVM_SIGNAL_MSI: userspace injects an MSI",
  ["kvm.irq_line"] = "KVM_IRQ_LINE: userspace sets the level of a line",
  ["kvm.posted_interrupt"] = "posted: a running vCPU takes it without an exit",
  ["guest.irq"] = "handler of the guest", ["kvm.exit_external_interrupt"] = "exit: the vCPU was running",
}

-- A register access: region and offset in one word. Returns what the Info column says.
local function add_register(tvb, tree)
  if bytes_at(tvb, 32, 12) == nil then return "" end
  local branch = tree:add_le(g.access, tvb(32, 4))
  add(branch, tvb, g.region, 32, 4)
  add(branch, tvb, g.offset, 32, 4)
  add(tree, tvb, g.value, 40, 4)
  local word = tvb(32, 4):le_uint()
  local region = REGIONS[math.floor(word / 0x1000000)] or ("region " .. math.floor(word / 0x1000000))
  return string.format("%s+0x%x = 0x%x", region, word % 0x1000000, tvb(40, 4):le_uint())
end

-- Events whose columns are words of bits, or wider than the others. Each returns what the Info column says.
local SPECIAL = {
  ["virtio.status"] = function(tvb, tree)
    local _, names = add_status_byte(tvb, tree, 32)
    add(tree, tvb, setup.shown, 40, 1)
    return #names == 0 and "reset" or table.concat(names, " ")
  end,
  ["virtio.features"] = function(tvb, tree)
    if bytes_at(tvb, 32, 12) == nil then return "" end
    local word, bits = tvb(32, 4):le_uint(), tvb(40, 4):le_uint()
    add(tree, tvb, setup.word, 32, 4)
    add(tree, tvb, setup.accepted, 32, 4)
    local low, high = bits, 0
    if has(word, 1) then low, high = 0, bits end
    add_bits(tree:add_le(setup.bits, tvb(40, 4)), tvb(40, 4), setup.feature, low, high, FEATURES)
    local side = has(word, 0x80000000) and "accepted" or "offered"
    return side .. string.format(" word %d: 0x%08x", word % 0x80000000, bits)
  end,
  ["pci.capability"] = function(tvb, tree)
    if bytes_at(tvb, 32, 12) == nil then return "" end
    add(tree, tvb, setup.cap_offset, 32, 4)
    add(tree, tvb, setup.cap_id, 40, 1)
    add(tree, tvb, setup.cfg_type, 41, 1)
    local id, cfg = tvb(40, 1):uint(), tvb(41, 1):uint()
    return (id == 9 and CFG_TYPES[cfg]) or CAPABILITIES[id] or ("capability " .. id)
  end,
  ["packet.clone"] = function(tvb, tree)
    add(tree, tvb, f.parent, 32, 8)
    add(tree, tvb, e.bytes, 40, 4)
    return "of frame " .. tostring(tvb(32, 8):le_uint64())
  end,
  ["packet.segment"] = function(tvb, tree)
    add(tree, tvb, f.parent, 32, 8)
    add(tree, tvb, e.bytes, 40, 4)
    return "of frame " .. tostring(tvb(32, 8):le_uint64())
  end,
  ["packet.merge"] = function(tvb, tree)
    add(tree, tvb, f.parent, 32, 8)
    add(tree, tvb, e.bytes, 40, 4)
    return "into frame " .. tostring(tvb(32, 8):le_uint64())
  end,
  ["virtio.register_write"] = function(tvb, tree)
    return add_register(tvb, tree)
  end,
  ["virtio.rejected"] = function(tvb, tree)
    return add_register(tvb, tree)
  end,
}
local IOCTLS = { ["vhost.ioctl"] = VHOST_IOCTLS, ["kvm.ioctl"] = KVM_IOCTLS, ["kvm.ioctl_result"] = KVM_IOCTLS, ["tap.ioctl"] = TUN_IOCTLS,
  ["vhost.user_request"] = REQUESTS, ["vhost.user_reply"] = REQUESTS }

-- `avail_idx=17`: a value for the Info column; addresses as people know them.
local function shown(title, value)
  if title == "" then return "" end
  if title == "address" and type(value) == "number" then value = string.format("0x%08x", value) end
  return " " .. title .. "=" .. tostring(value)
end

-- 32 bits, little-endian, of the row as a string.
local function word_at(raw, at)
  local b0, b1, b2, b3 = raw:byte(at + 1, at + 4)
  return b0 + b1 * 256 + b2 * 65536 + b3 * 16777216
end
-- 64 bits as a decimal. Lua 5.2 counts up to 2^53 only.
local function decimal_at(raw, tvb, at)
  local low, high = word_at(raw, at), word_at(raw, at + 4)
  if high >= 0x200000 then return tostring(tvb(at, 8):le_uint64()) end
  return string.format("%d", low + high * 4294967296)
end

-- Adds a little-endian field where somebody asks for it.
local function put(tree, all, tvb, field, at, length)
  if all or tree:referenced(field) then return tree:add_le(field, tvb(at, length)) end
end
local function put_text(tree, all, tvb, field, place, value)
  if place ~= nil and (all or tree:referenced(field)) then tree:add(field, tvb(place[1], place[2]), value) end
end

-- Columns a and b as the event's own fields. Returns what the Info column says of them.
local function add_columns(tvb, raw, tree, all, shape)
  if shape.special then return " " .. shape.special(tvb, tree) end
  local columns = shape.columns
  local b = word_at(raw, 40)
  if columns == nil then
    -- An event that is newer than this file: its values under the names that the row itself gives them.
    if shape.a ~= "" then tree:add_le(e.a, tvb(32, 8)):append_text(" (" .. shape.a .. ")") end
    if shape.b ~= "" then tree:add_le(e.b, tvb(40, 4)):append_text(" (" .. shape.b .. ")") end
    return shown(shape.a, decimal_at(raw, tvb, 32)) .. shown(shape.b, b)
  end
  local a = word_at(raw, 32)
  if columns[1] then put(tree, all, tvb, columns[1], 32, 4) end
  if columns[2] then put(tree, all, tvb, columns[2], 40, 4) end
  if shape.method then put_text(tree, all, tvb, x.method, shape.event_at, shape.method) end
  local name = shape.ioctls and shape.ioctls[a]
  if name ~= nil then return " " .. name end
  return (columns[1] and shown(shape.a, a) or "") .. (columns[2] and shown(shape.b, b) or "")
end

-- Events by protocol in the list: the family of the event's name.
local PROTOCOLS = { virtq = "VIRTQ", kvm = "KVM", eventfd = "EVENTFD", sched = "SCHED", packet = "PACKET", guest = "GUEST",
  tap = "TAP", dp = "DATAPATH", nic = "NIC", wire = "WIRE", link = "LINK", vhost = "VHOST", vhost_user = "VHOST-USER",
  virtio = "VIRTIO", virtio_net = "VIRTIO-NET", tcp = "TCP", pci = "PCI", traffic = "TRAFFIC", fault = "FAULT",
  br = "BRIDGE", port = "PORT", qemu = "QEMU", iommu = "IOMMU", iotlb = "IOTLB", host_iommu = "HOST-IOMMU", vfio = "VFIO",
  dpdk = "DPDK" }
local function protocol_of(event)
  if event:sub(1, 11) == "vhost.user_" then return "VHOST-USER" end
  return PROTOCOLS[event:match("^[^.]*")] or "RINGSIDE"
end

-- Of each string behind the fixed part its value, and where it is; nil where the row ends first.
local STRINGS = { "event", "place", "context", "a", "b" }
local function read_strings(tvb)
  local values, at = {}, 52
  for _, name in ipairs(STRINGS) do
    local length = bytes_at(tvb, at, 1)
    if length == nil then return nil end
    local size = length:uint()
    local range = bytes_at(tvb, at + 1, size)
    if size > 0 and range == nil then return nil end
    values[name] = size == 0 and "" or range:string(ENC_UTF_8)
    if size > 0 then values[name .. "_at"] = { at + 1, size } end
    at = at + 1 + size
  end
  values.ends = at
  return values
end

-- What rows with the same head have in common: the strings, and what follows from the event's name. Kept by the head's
-- bytes; heads are few (a place, an event and a context each) but where somebody makes them up.
local shapes, shape_count = {}, 0
local SHAPES_MAX = 20000
-- Longest head: five strings of 255 bytes.
local HEAD_MAX = 52 + 5 * 256
local function shape_of(tvb, raw, head)
  local key = raw:sub(45, head)
  local shape = shapes[key]
  if shape ~= nil then return shape end
  shape = read_strings(tvb)
  if shape == nil or shape.ends ~= head then return shape end
  local event = shape.event
  shape.columns, shape.special, shape.ioctls, shape.method = COLUMNS[event], SPECIAL[event], IOCTLS[event], METHODS[event]
  shape.exit = event:match("^kvm%.exit_(.+)$")
  shape.protocol = protocol_of(event)
  -- For the comment of the row: keys that are added here.
  shape.known = { hop = true, event = true, ctx = true, ns = true, seq = true, frame = true, exit = shape.exit ~= nil,
    parent = event == "packet.clone" or event == "packet.segment" or event == "packet.merge" }
  if shape_count >= SHAPES_MAX then shapes, shape_count = {}, 0 end
  shapes[key] = shape
  shape_count = shape_count + 1
  return shape
end

local function add_header(tvb, tree, all, shape, has_frame)
  put(tree, all, tvb, e.version, 4, 1)
  put(tree, all, tvb, e.flags, 5, 1)
  put(tree, all, tvb, e.length, 6, 2)
  put(tree, all, tvb, f.seq, 8, 8)
  put(tree, all, tvb, f.ns, 16, 8)
  if has_frame then put(tree, all, tvb, f.frame, 24, 8) end
  put_text(tree, all, tvb, f.event, shape.event_at, shape.event)
  put_text(tree, all, tvb, f.hop, shape.place_at, shape.place)
  put_text(tree, all, tvb, f.ctx, shape.context_at, shape.context)
  put(tree, all, tvb, e.kind, 44, 2)
  put(tree, all, tvb, e.place, 46, 2)
  put(tree, all, tvb, e.context, 48, 2)
  put(tree, all, tvb, e.data_type, 50, 1)
  if shape.exit == nil then return end
  local reason = EXITS[shape.exit] or { shape.exit, "unknown" }
  put_text(tree, all, tvb, f.exit, shape.event_at, shape.exit)
  put_text(tree, all, tvb, x.reason, shape.event_at, reason[1])
  put_text(tree, all, tvb, x.by, shape.event_at, reason[2])
end

local ADD_DATA = { [2] = add_descriptors, [3] = add_vhost_user, [4] = add_iotlb }

local function refuse(pinfo, tree, why)
  tree:add(event_row):add(e.malformed, why)
  pinfo.cols.protocol:set("RINGSIDE")
  pinfo.cols.info:set("[" .. why .. "]")
end

local inside = false
local USER0 = (wtap_encaps or wtap).USER0
-- Who had USER0 before this file.
local earlier = DissectorTable.get("wtap_encap"):get_dissector(USER0)

local function dissect_event(tvb, raw, pinfo, tree)
  if #raw < 52 then return refuse(pinfo, tree, "Event cut short") end
  if raw:byte(5) ~= 1 then return refuse(pinfo, tree, "Version of the event rows is not 1") end
  local head = raw:byte(7) + raw:byte(8) * 256
  local shape = shape_of(tvb, raw, head)
  if shape == nil then return refuse(pinfo, tree, "Event cut short") end
  told = shape.known or NOTHING
  local all = tree.visible
  local row
  if all then
    row = tree:add(event_row, tvb())
    row:append_text(": " .. shape.event .. " at " .. shape.place)
  else
    row = tree:add(event_row)
  end
  local frame = decimal_at(raw, tvb, 24)
  add_header(tvb, row, all, shape, frame ~= "0")
  local info = shape.event .. " " .. shape.place .. add_columns(tvb, raw, row, all, shape)
  if frame ~= "0" then info = info .. " frame " .. frame end

  local kind = raw:byte(51)
  if shape.ends ~= head then
    row:add(e.malformed, "The header says that it is " .. head .. " bytes long")
  elseif ADD_DATA[kind] then
    local ends, detail = ADD_DATA[kind](tvb, row, head)
    if ends == nil then row:add(e.malformed, "The data are cut short") end
    if detail ~= nil and detail ~= "" then info = info .. " (" .. detail .. ")" end
  elseif kind == 1 then
    add_frame(tvb, pinfo, tree, head)
  end
  -- After the frame's own dissectors: the row is an event in the first place.
  pinfo.cols.protocol:set(shape.protocol or "RINGSIDE")
  pinfo.cols.info:set(info)
end

function event_row.dissector(tvb, pinfo, tree)
  local length = tvb:len()
  local raw = length > 0 and tvb:raw(0, math.min(length, HEAD_MAX)) or ""
  if raw:sub(1, 4) == "RSEV" then
    dissect_event(tvb, raw, pinfo, tree)
    return length
  end
  -- Somebody else's USER0. Its dissector may be this one again, when the table of user link types names it.
  if earlier == nil or inside then return 0 end
  inside = true
  local done, used = pcall(function() return earlier:call(tvb, pinfo, tree) end)
  inside = false
  return done and used or 0
end
DissectorTable.get("wtap_encap"):add(USER0, event_row)
