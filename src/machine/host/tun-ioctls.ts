/**
 * /dev/net/tun: ioctl numbers and flags, and what QEMU asks for when it opens a tap.
 * linux include/uapi/linux/if_tun.h (6.1), numbers from a program compiled on x86-64.
 */
export const TUNSETNOCSUM = 0x4004_54c8;
export const TUNSETDEBUG = 0x4004_54c9;
export const TUNSETIFF = 0x4004_54ca;
export const TUNSETPERSIST = 0x4004_54cb;
export const TUNSETOWNER = 0x4004_54cc;
export const TUNSETLINK = 0x4004_54cd;
export const TUNSETGROUP = 0x4004_54ce;
export const TUNGETFEATURES = 0x8004_54cf;
export const TUNSETOFFLOAD = 0x4004_54d0;
export const TUNSETTXFILTER = 0x4004_54d1;
export const TUNGETIFF = 0x8004_54d2;
export const TUNGETSNDBUF = 0x8004_54d3;
export const TUNSETSNDBUF = 0x4004_54d4;
export const TUNATTACHFILTER = 0x4010_54d5;
export const TUNDETACHFILTER = 0x4010_54d6;
export const TUNGETVNETHDRSZ = 0x8004_54d7;
export const TUNSETVNETHDRSZ = 0x4004_54d8;
export const TUNSETQUEUE = 0x4004_54d9;
export const TUNSETIFINDEX = 0x4004_54da;
export const TUNGETFILTER = 0x8010_54db;
export const TUNSETVNETLE = 0x4004_54dc;
export const TUNGETVNETLE = 0x8004_54dd;
export const TUNSETVNETBE = 0x4004_54de;
export const TUNGETVNETBE = 0x8004_54df;
export const TUNSETSTEERINGEBPF = 0x8004_54e0;
export const TUNSETFILTEREBPF = 0x8004_54e1;
export const TUNSETCARRIER = 0x4004_54e2;
export const TUNGETDEVNETNS = 0x0000_54e3;
export const TUN_IOCTL_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries({
    TUNSETNOCSUM,
    TUNSETDEBUG,
    TUNSETIFF,
    TUNSETPERSIST,
    TUNSETOWNER,
    TUNSETLINK,
    TUNSETGROUP,
    TUNGETFEATURES,
    TUNSETOFFLOAD,
    TUNSETTXFILTER,
    TUNGETIFF,
    TUNGETSNDBUF,
    TUNSETSNDBUF,
    TUNATTACHFILTER,
    TUNDETACHFILTER,
    TUNGETVNETHDRSZ,
    TUNSETVNETHDRSZ,
    TUNSETQUEUE,
    TUNSETIFINDEX,
    TUNGETFILTER,
    TUNSETVNETLE,
    TUNGETVNETLE,
    TUNSETVNETBE,
    TUNGETVNETBE,
    TUNSETSTEERINGEBPF,
    TUNSETFILTEREBPF,
    TUNSETCARRIER,
    TUNGETDEVNETNS,
  }).map(([name, value]) => [value, name]),
);

export const IFF_TUN = 0x0001;
export const IFF_TAP = 0x0002;
export const IFF_NAPI = 0x0010;
export const IFF_NAPI_FRAGS = 0x0020;
export const IFF_MULTI_QUEUE = 0x0100;
export const IFF_ATTACH_QUEUE = 0x0200;
export const IFF_DETACH_QUEUE = 0x0400;
export const IFF_PERSIST = 0x0800;
export const IFF_NO_PI = 0x1000;
export const IFF_ONE_QUEUE = 0x2000;
export const IFF_VNET_HDR = 0x4000;
export const IFF_TUN_EXCL = 0x8000;
export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
export const TUN_F_TSO_ECN = 0x08;
export const TUN_F_UFO = 0x10;
/** From linux 6.2. */
export const TUN_F_USO4 = 0x20;
export const TUN_F_USO6 = 0x40;
/** What TUNGETFEATURES of Linux 6.1 answers for the flags a hypervisor cares about (linux drivers/net/tun.c, TUN_FEATURES). */
export const TUN_FEATURES =
  IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_ONE_QUEUE | IFF_VNET_HDR | IFF_MULTI_QUEUE | IFF_NAPI | IFF_NAPI_FRAGS;

export interface TunStep {
  readonly ioctl: number;
  /** The argument, or the value that the kernel puts there. */
  readonly argument: number;
  readonly why: string;
  /** The queue of the tap whose file it is made on; the first where nothing is said. */
  readonly queue?: number;
  /** The VMM does not look at the result. */
  readonly mayFail?: boolean;
}
/** QEMU's default send buffer limit: none (qemu net/tap-linux.c, TAP_DEFAULT_SNDBUF and INT_MAX for 0). */
const SNDBUF_NO_LIMIT = 0x7fff_ffff;
/** struct virtio_net_hdr without and with num_buffers. */
const VNET_HDR = 10;
const VNET_HDR_MRG = 12;

/**
 * qemu net/tap-linux.c, tap_open(); net/tap.c, net_tap_fd_init() and net_init_tap_one(). One queue. From the source, not from
 * a recording.
 */
export const QEMU_TAP_OPEN: readonly TunStep[] = [
  { ioctl: TUNGETFEATURES, argument: TUN_FEATURES, why: 'what the kernel can: one queue, vnet header' },
  // there is no interface yet: EBADFD, which QEMU ignores
  { ioctl: TUNSETVNETHDRSZ, argument: VNET_HDR, why: 'start from the short header', mayFail: true },
  { ioctl: TUNSETIFF, argument: IFF_TAP | IFF_NO_PI | IFF_ONE_QUEUE | IFF_VNET_HDR, why: 'attach to the interface' },
  { ioctl: TUNSETOFFLOAD, argument: TUN_F_CSUM | TUN_F_UFO, why: 'does the kernel take UFO' },
  { ioctl: TUNSETOFFLOAD, argument: 0, why: 'no offloads until the guest accepts some' },
  { ioctl: TUNGETVNETHDRSZ, argument: VNET_HDR, why: 'does the kernel know header sizes' },
  { ioctl: TUNSETVNETHDRSZ, argument: VNET_HDR, why: 'and take this one' },
  { ioctl: TUNSETVNETHDRSZ, argument: VNET_HDR, why: 'back to what it was' },
  { ioctl: TUNSETVNETHDRSZ, argument: VNET_HDR, why: 'the size to begin with' },
  { ioctl: TUNSETSNDBUF, argument: SNDBUF_NO_LIMIT, why: 'no limit on frames under way' },
];
/** The same for one of several queues of a tap: each is a file of its own on the same interface. */
export const QEMU_TAP_OPEN_QUEUE: readonly TunStep[] = QEMU_TAP_OPEN.map((step) =>
  step.ioctl === TUNSETIFF
    ? { ...step, argument: step.argument | IFF_MULTI_QUEUE, why: 'attach one more queue to the interface' }
    : step,
);
/** A queue of a tap comes into use, or out of it (qemu net/tap.c, tap_enable() and tap_disable()). */
export function tapQueueStep(attach: boolean, queue: number): TunStep {
  return attach
    ? { ioctl: TUNSETQUEUE, argument: IFF_ATTACH_QUEUE, why: 'the driver wants the queue pair', queue }
    : { ioctl: TUNSETQUEUE, argument: IFF_DETACH_QUEUE, why: 'the driver does not use the queue pair', queue };
}
/** A program that chooses queues is attached, or taken away (qemu net/tap-linux.c, tap_fd_set_steering_ebpf()). */
export function steeringStep(attach: boolean): TunStep {
  return attach
    ? { ioctl: TUNSETSTEERINGEBPF, argument: STEERING_PROGRAM_FD, why: 'RSS chooses the queue of each frame' }
    : { ioctl: TUNSETSTEERINGEBPF, argument: 0xffff_ffff, why: 'the tap chooses by flow again' };
}
/** An example: which descriptor a program has is of no account. */
const STEERING_PROGRAM_FD = 9;
/** When the guest's features are known, without the probes and repetitions (qemu hw/net/virtio-net.c, virtio_net_set_mrg_rx_bufs() and _apply_guest_offloads()). */
export const QEMU_TAP_GUEST_FEATURES: readonly TunStep[] = [
  { ioctl: TUNSETVNETHDRSZ, argument: VNET_HDR_MRG, why: 'VERSION_1 or MRG_RXBUF: header with num_buffers' },
  { ioctl: TUNSETOFFLOAD, argument: 0, why: 'the guest takes no checksum or segmentation offload' },
];
/** The same for a guest with a header of so many bytes, set on each queue, that takes `offloads` (TUN_F_… bits, guestOffloads()). */
export function qemuTapGuestFeatures(offloads: number, headerBytes = VNET_HDR_MRG, queues = 1): readonly TunStep[] {
  const [header, nothing] = QEMU_TAP_GUEST_FEATURES;
  const size = { ...header!, argument: headerBytes };
  const further = Array.from({ length: queues - 1 }, (_, i) => ({ ...size, queue: i + 1 }));
  if (offloads === 0) return [size, ...further, nothing!];
  return [size, ...further, { ioctl: TUNSETOFFLOAD, argument: offloads, why: 'what the guest takes as it is' }];
}
