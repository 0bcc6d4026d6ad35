/**
 * An open /dev/net/tun: its ioctls, with the checks and errors of linux drivers/net/tun.c, __tun_chr_ioctl(), tun_set_iff(),
 * tun_attach(), set_offload(), tun_set_queue() (6.1).
 *
 * DEVIATION: whoever opens the file has CAP_NET_ADMIN; socket filters and eBPF programs are noted, not run (RSS is the tap's
 * own, see tap.ts); an interface has no hardware address of its own.
 */
import { TUN_IOCTL, TUN_IOCTL_ARGUMENT, TUN_IOCTL_RESULT } from '../../engine/events.ts';
import { E2BIG, EAGAIN, EBADFD, EBUSY, EEXIST, EFAULT, EINVAL, EIO, EPERM } from '../kernel/errno.ts';
import { OpenFile } from '../kernel/files.ts';
import { viewOf } from '../wire/struct.ts';
import { ifNameOf, ifreq, ifreqBytes, sock_fprog, tun_int } from '../wire/tun.ts';
import { MAX_TAP_QUEUES, type TunInterface, type TunNamespace, type TunQueue } from './tun-interface.ts';
import {
  IFF_ATTACH_QUEUE,
  IFF_DETACH_QUEUE,
  IFF_MULTI_QUEUE,
  IFF_NAPI,
  IFF_NAPI_FRAGS,
  IFF_NO_PI,
  IFF_ONE_QUEUE,
  IFF_PERSIST,
  IFF_TAP,
  IFF_TUN,
  IFF_TUN_EXCL,
  IFF_VNET_HDR,
  TUN_F_CSUM,
  TUN_F_TSO_ECN,
  TUN_F_TSO4,
  TUN_F_TSO6,
  TUN_F_UFO,
  TUN_F_USO4,
  TUN_F_USO6,
  TUN_FEATURES,
  TUNATTACHFILTER,
  TUNDETACHFILTER,
  TUNGETDEVNETNS,
  TUNGETFEATURES,
  TUNGETFILTER,
  TUNGETIFF,
  TUNGETSNDBUF,
  TUNGETVNETHDRSZ,
  TUNGETVNETLE,
  TUNSETCARRIER,
  TUNSETDEBUG,
  TUNSETFILTEREBPF,
  TUNSETGROUP,
  TUNSETIFF,
  TUNSETIFINDEX,
  TUNSETLINK,
  TUNSETNOCSUM,
  TUNSETOFFLOAD,
  TUNSETOWNER,
  TUNSETPERSIST,
  TUNSETQUEUE,
  TUNSETSNDBUF,
  TUNSETSTEERINGEBPF,
  TUNSETTXFILTER,
  TUNSETVNETHDRSZ,
  TUNSETVNETLE,
} from './tun-ioctls.ts';
import { tunRead, tunWrite } from './tun-packets.ts';

/** sizeof(struct virtio_net_hdr): the smallest header. */
const VNET_HDR_MIN = 10;
/** Flags that TUNSETIFF keeps (TUN_FEATURES of tun.c). */
const KEPT = IFF_NO_PI | IFF_ONE_QUEUE | IFF_VNET_HDR | IFF_MULTI_QUEUE | IFF_NAPI | IFF_NAPI_FRAGS;

/** Requests whose argument is the number itself, and those that take it through a pointer. */
const BY_VALUE: ReadonlySet<number> = new Set([
  TUNSETNOCSUM,
  TUNSETDEBUG,
  TUNSETPERSIST,
  TUNSETOWNER,
  TUNSETLINK,
  TUNSETGROUP,
  TUNSETOFFLOAD,
]);
/** Told of every request: event kind, request, argument; then the argument's bytes, and the result where it is not 0. */
export type TunTrace = (kind: number, ioctl: number, argument: number, bytes?: Uint8Array) => void;

export class TunFile extends OpenFile {
  private readonly namespace: TunNamespace;
  private readonly trace: TunTrace;
  private attachedTo: TunInterface | null = null;
  private readonly queue: TunQueue = { detached: false, packets: [] };

  constructor(namespace: TunNamespace, trace: TunTrace = () => {}) {
    super('/dev/net/tun');
    this.namespace = namespace;
    this.trace = trace;
  }

  /** The interface that the file is a queue of; null before TUNSETIFF. */
  get tun(): TunInterface | null {
    return this.attachedTo;
  }
  /** tun_get_socket() would give a socket: what vhost-net takes as a backend. */
  get isTap(): boolean {
    return this.attachedTo?.isTap === true;
  }

  /** `value`: for the requests that take their number as it is (TUNSETOFFLOAD, TUNSETPERSIST …). */
  override ioctl(request: number, argument: Uint8Array = new Uint8Array(0), value = 0): number {
    const m = viewOf(argument);
    const number = BY_VALUE.has(request) ? value : this.traced(request, m);
    this.trace(TUN_IOCTL, request, number >>> 0);
    const result = this.answer(request, argument, m, value);
    if (argument.length > 0) this.trace(TUN_IOCTL_ARGUMENT, 0, 0, argument);
    if (result !== 0) this.trace(TUN_IOCTL_RESULT, request, result);
    return result;
  }
  /** What the record shows of an argument: the flags of an ifreq, else the first word. */
  private traced(request: number, m: DataView): number {
    if (request === TUNGETFEATURES) return TUN_FEATURES;
    if (request === TUNGETVNETHDRSZ) return this.attachedTo?.headerSize ?? 0;
    if ((request === TUNSETIFF || request === TUNSETQUEUE) && m.byteLength >= ifreq.SIZE)
      return ifreq.ifr_flags.get(m, 0);
    return m.byteLength >= 4 ? m.getUint32(0, true) : 0;
  }

  private answer(request: number, argument: Uint8Array, m: DataView, value: number): number {
    if (request === TUNSETIFF || request === TUNSETQUEUE) {
      if (argument.length < ifreq.SIZE) return -EFAULT;
      return request === TUNSETIFF ? this.setIff(argument, m) : this.setQueue(ifreq.ifr_flags.get(m, 0));
    }
    if (request === TUNGETFEATURES) return this.answerWith(m, TUN_FEATURES);
    if (request === TUNSETIFINDEX) return this.attachedTo !== null ? -EPERM : m.byteLength < 4 ? -EFAULT : 0;
    const tun = this.attachedTo;
    if (tun === null) return -EBADFD;
    return BY_VALUE.has(request) ? this.setNumber(tun, request, value) : this.attachedIoctl(tun, request, argument, m);
  }

  // ---- packets ------------------------------------------------------------------------------------------------------
  /** read(2), non-blocking: the next packet with what lies before it; -EAGAIN, -EBADFD before TUNSETIFF. */
  read(buffer: Uint8Array): number {
    const tun = this.attachedTo;
    if (tun === null) return -EBADFD;
    const packet = this.queue.detached ? undefined : this.queue.packets.shift();
    return packet === undefined ? -EAGAIN : tunRead(tun, packet, buffer);
  }
  /** write(2): one packet goes into the host. Its length, or a negative errno. */
  write(bytes: Uint8Array): number {
    const tun = this.attachedTo;
    if (tun === null) return -EBADFD;
    if (this.queue.detached) return -EIO;
    const packet = tunWrite(tun, bytes);
    if (typeof packet === 'number') return packet;
    tun.hooks.onPacket(packet);
    return bytes.length;
  }

  // ---- attaching ----------------------------------------------------------------------------------------------------
  /** tun_set_iff(). */
  private setIff(argument: Uint8Array, m: DataView): number {
    if (this.attachedTo !== null) return -EEXIST;
    const flags = ifreq.ifr_flags.get(m, 0);
    const name = ifNameOf(argument);
    const fragments = (flags & IFF_NAPI_FRAGS) !== 0;
    if (fragments && ((flags & IFF_NAPI) === 0 || (flags & IFF_TAP) === 0)) return -EINVAL;
    const type = flags & (IFF_TUN | IFF_TAP);
    const there = this.namespace.find(name);
    if (there === undefined && type === 0) return -EINVAL;
    if (there !== undefined && (flags & IFF_TUN_EXCL) !== 0) return -EBUSY;
    if (there !== undefined && ((there.flags & type) === 0 || there.multiQueue !== ((flags & IFF_MULTI_QUEUE) !== 0)))
      return -EINVAL;
    const kept = (flags & KEPT) | ((flags & IFF_TUN) !== 0 ? IFF_TUN : IFF_TAP);
    const made = (flags & IFF_TUN) !== 0 ? 'tun%d' : 'tap%d';
    const tun = there ?? this.namespace.create(name === '' ? made : name, kept);
    const result = this.attach(tun);
    if (result < 0) return result;
    tun.flags = kept;
    argument.set(ifreqBytes(tun.name, flags).subarray(0, 16));
    return 0;
  }
  /** tun_attach(). */
  private attach(tun: TunInterface): number {
    if (!tun.multiQueue && tun.attached === 1) return -EBUSY;
    if (!this.queue.detached && tun.queues.length === MAX_TAP_QUEUES) return -E2BIG;
    if (!this.queue.detached) tun.queues.push(this.queue);
    this.queue.detached = false;
    this.attachedTo = tun;
    tun.hooks.onQueues(tun.attached);
    return 0;
  }
  /** tun_set_queue(). */
  private setQueue(flags: number): number {
    const tun = this.attachedTo;
    if ((flags & IFF_ATTACH_QUEUE) !== 0) return tun === null || !this.queue.detached ? -EINVAL : this.attach(tun);
    if ((flags & IFF_DETACH_QUEUE) === 0) return -EINVAL;
    if (tun === null || !tun.multiQueue || this.queue.detached) return -EINVAL;
    this.queue.detached = true;
    this.queue.packets.length = 0; // tun_queue_purge()
    tun.hooks.onQueues(tun.attached);
    return 0;
  }
  /** The file is closed: its queue goes, and with the last one the interface. */
  protected override released(): void {
    const tun = this.attachedTo;
    if (tun === null) return;
    this.attachedTo = null;
    tun.queues.splice(tun.queues.indexOf(this.queue), 1);
    tun.hooks.onQueues(tun.attached);
    if (tun.queues.length === 0 && !tun.persistent) this.namespace.remove(tun);
  }

  // ---- settings -----------------------------------------------------------------------------------------------------
  private setNumber(tun: TunInterface, request: number, value: number): number {
    switch (request) {
      case TUNSETNOCSUM: // disabled for good
      case TUNSETDEBUG:
        return 0;
      case TUNSETPERSIST:
        tun.persistent = value !== 0;
        return 0;
      case TUNSETOWNER:
        tun.owner = value;
        return 0;
      case TUNSETGROUP:
        tun.group = value;
        return 0;
      case TUNSETLINK:
        if (tun.up) return -EBUSY;
        tun.linkType = value;
        return 0;
      default:
        return setOffload(tun, value);
    }
  }
  private attachedIoctl(tun: TunInterface, request: number, argument: Uint8Array, m: DataView): number {
    switch (request) {
      case TUNGETIFF:
        if (argument.length < ifreq.SIZE) return -EFAULT;
        argument.set(ifreqBytes(tun.name, tun.flags | (tun.persistent ? IFF_PERSIST : 0)).subarray(0, 18));
        return 0;
      case TUNGETSNDBUF:
        return this.answerWith(m, tun.sendBuffer);
      case TUNSETSNDBUF:
        return this.take(m, (n) => (n <= 0 ? -EINVAL : this.keep(() => (tun.sendBuffer = n))));
      case TUNGETVNETHDRSZ:
        return this.answerWith(m, tun.headerSize);
      case TUNSETVNETHDRSZ:
        return this.take(m, (n) => {
          if (n < VNET_HDR_MIN) return -EINVAL;
          tun.headerSize = n;
          tun.hooks.onHeaderSize(n);
          return 0;
        });
      case TUNGETVNETLE:
        return this.answerWith(m, Number(tun.littleEndian));
      case TUNSETVNETLE:
        return this.take(m, (n) => this.keep(() => (tun.littleEndian = n !== 0)));
      case TUNSETCARRIER:
        return this.take(m, (n) => {
          tun.carrier = n !== 0;
          tun.hooks.onCarrier(tun.carrier);
          return 0;
        });
      case TUNSETSTEERINGEBPF:
        return this.take(m, (n) => this.keep(() => tun.hooks.onSteering(n)));
      case TUNSETFILTEREBPF:
        return this.take(m, () => 0);
      case TUNSETTXFILTER:
      case TUNATTACHFILTER:
      case TUNDETACHFILTER:
      case TUNGETFILTER:
        return this.filter(tun, request, argument);
      case TUNGETDEVNETNS: // a descriptor of a namespace, of which there is one
        return -EPERM;
      default: // TUNGETVNETBE and TUNSETVNETBE: without CONFIG_TUN_VNET_CROSS_LE
        return -EINVAL;
    }
  }
  private filter(tun: TunInterface, request: number, argument: Uint8Array): number {
    if (!tun.isTap) return -EINVAL;
    if (request === TUNSETTXFILTER) return argument.length < 4 ? -EFAULT : 0;
    if (request !== TUNDETACHFILTER && argument.length < sock_fprog.SIZE) return -EFAULT;
    if (request === TUNATTACHFILTER) tun.filtered = true;
    else if (request === TUNDETACHFILTER) tun.filtered = false;
    return 0;
  }

  private answerWith(m: DataView, value: number): number {
    if (m.byteLength < tun_int.SIZE) return -EFAULT;
    tun_int.value.set(m, 0, value >>> 0);
    return 0;
  }
  /** A signed number behind the argument's pointer. */
  private take(m: DataView, use: (n: number) => number): number {
    return m.byteLength < tun_int.SIZE ? -EFAULT : use(m.getInt32(0, true));
  }
  private keep(set: () => unknown): number {
    set();
    return 0;
  }
}

/**
 * set_offload(): segmentation needs checksums, ECN needs segmentation; what is left over is unknown. UFO is taken and forgotten.
 * DEVIATION: Linux 6.2 takes USO4 and USO6 only together; here a guest may have one of them.
 */
function setOffload(tun: TunInterface, wanted: number): number {
  let left = wanted;
  if ((left & TUN_F_CSUM) !== 0) {
    left &= ~TUN_F_CSUM;
    if ((left & (TUN_F_TSO4 | TUN_F_TSO6)) !== 0) left &= ~(TUN_F_TSO_ECN | TUN_F_TSO4 | TUN_F_TSO6);
    left &= ~TUN_F_UFO;
    left &= ~(TUN_F_USO4 | TUN_F_USO6);
  }
  if (left !== 0) return -EINVAL;
  tun.offloads = wanted;
  tun.hooks.onOffloads(wanted);
  return 0;
}
