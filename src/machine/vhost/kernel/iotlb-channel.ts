/**
 * The messages of a vhost device about its IOTLB: the kernel's misses are read from the open file, the VMM's updates and
 * invalidations are written to it. linux drivers/vhost/vhost.c, vhost_chr_read_iter(), vhost_chr_write_iter(),
 * vhost_process_iotlb_msg() (6.1).
 */
import { EAGAIN, EFAULT, EINVAL, ENOMEM } from '../../kernel/errno.ts';
import { viewOf } from '../../wire/struct.ts';
import {
  VHOST_IOTLB_INVALIDATE,
  VHOST_IOTLB_MISS,
  VHOST_IOTLB_MSG,
  VHOST_IOTLB_MSG_V2,
  VHOST_IOTLB_UPDATE,
  vhost_iotlb_msg,
  vhost_msg,
  vhost_msg_v2,
} from '../../wire/vhost.ts';

export interface IotlbRange {
  readonly iova: number;
  readonly size: number;
}
/** What a message of the VMM makes the back-end do. Each answers 0 or a negative errno. */
export interface IotlbHooks {
  /** The range is mapped: to the VMM's own address `uaddr`, with VHOST_ACCESS_ bits. */
  update(range: IotlbRange, uaddr: number, perm: number): number;
  invalidate(range: IotlbRange): number;
}

/** A message in bytes. `v2`: the form with an address space identifier. */
export function iotlbMessage(
  v2: boolean,
  type: number,
  { iova, size }: IotlbRange,
  uaddr: number,
  perm: number,
): Uint8Array {
  const head = v2 ? vhost_msg_v2 : vhost_msg;
  const out = new Uint8Array(head.SIZE);
  const m = viewOf(out);
  const at = head.iotlb.offset;
  head.type.set(m, 0, v2 ? VHOST_IOTLB_MSG_V2 : VHOST_IOTLB_MSG);
  vhost_iotlb_msg.iova.set(m, at, iova);
  vhost_iotlb_msg.size.set(m, at, size);
  vhost_iotlb_msg.uaddr.set(m, at, uaddr);
  vhost_iotlb_msg.perm.set(m, at, perm);
  vhost_iotlb_msg.type.set(m, at, type);
  return out;
}

interface Miss {
  readonly iova: number;
  readonly perm: number;
}

export class IotlbChannel {
  /** null until VIRTIO_F_ACCESS_PLATFORM was acknowledged: without it there is no table to write to. */
  hooks: IotlbHooks | null = null;
  /** VHOST_BACKEND_F_IOTLB_MSG_V2 was acknowledged: misses have the second form. */
  v2 = false;
  /** Told when a miss is there to be read (EPOLLIN). */
  onReadable: () => void = () => {};
  /** read_list: misses that nobody has read; pending_list: those that were read and have no answer. */
  private readonly unread: Miss[] = [];
  private readonly unanswered: Miss[] = [];

  /**
   * The back-end has met an address without a translation (vhost_iotlb_miss()). The same one is asked for once; false where
   * that has been done.
   */
  miss(iova: number, perm: number): boolean {
    const same = (m: Miss): boolean => m.iova === iova && (perm & ~m.perm) === 0;
    if (this.unread.some(same) || this.unanswered.some(same)) return false;
    this.unread.push({ iova, perm });
    this.onReadable();
    return true;
  }
  /** Misses that can be read, and those that wait for their answer. */
  get readable(): number {
    return this.unread.length;
  }
  get waiting(): number {
    return this.unread.length + this.unanswered.length;
  }

  /** read(2), non-blocking: one message, 72 bytes. -EAGAIN where there is none, -EINVAL for a buffer too small. */
  read(buffer: Uint8Array): number {
    const miss = this.unread[0];
    if (miss === undefined) return -EAGAIN;
    const message = iotlbMessage(this.v2, VHOST_IOTLB_MISS, { iova: miss.iova, size: 0 }, 0, miss.perm);
    if (buffer.length < message.length) return -EINVAL;
    this.unread.shift();
    this.unanswered.push(miss);
    buffer.set(message);
    return message.length;
  }

  /** write(2): one message. Its length, or a negative errno: whatever the device does not like is -EFAULT. */
  write(bytes: Uint8Array): number {
    const m = viewOf(bytes);
    if (bytes.length < 4) return -EINVAL;
    const type = m.getUint32(0, true);
    if (type !== VHOST_IOTLB_MSG && type !== VHOST_IOTLB_MSG_V2) return -EINVAL;
    if (bytes.length < vhost_msg.SIZE) return -EINVAL;
    const at = vhost_msg.iotlb.offset;
    const range = { iova: vhost_iotlb_msg.iova.get(m, at), size: vhost_iotlb_msg.size.get(m, at) };
    const kind = vhost_iotlb_msg.type.get(m, at);
    // only vDPA devices have several address spaces
    if (type === VHOST_IOTLB_MSG_V2 && vhost_msg_v2.asid.get(m, 0) !== 0) return -EFAULT;
    if (kind === VHOST_IOTLB_UPDATE && range.size === 0) return -EINVAL;
    if (range.iova < 0 || range.size < 0 || this.hooks === null) return -EFAULT;
    const result = this.process(kind, range, m, at);
    return result < 0 ? -EFAULT : vhost_msg.SIZE;
  }
  private process(kind: number, range: IotlbRange, m: DataView, at: number): number {
    if (kind === VHOST_IOTLB_INVALIDATE) return this.hooks!.invalidate(range);
    if (kind !== VHOST_IOTLB_UPDATE) return -EINVAL;
    const uaddr = vhost_iotlb_msg.uaddr.get(m, at);
    const perm = vhost_iotlb_msg.perm.get(m, at);
    if (uaddr < 0 || perm === 0 || perm > 3) return -EFAULT;
    const result = this.hooks!.update(range, uaddr, perm);
    if (result < 0) return result === -ENOMEM ? -ENOMEM : -EFAULT;
    for (let i = this.unanswered.length - 1; i >= 0; i--) {
      const miss = this.unanswered[i]!;
      const inside = miss.iova >= range.iova && miss.iova < range.iova + range.size;
      if (inside && (miss.perm & ~perm) === 0) this.unanswered.splice(i, 1);
    }
    return 0;
  }
  /** The device was stopped or reset (vhost_clear_msg()). */
  clear(): void {
    this.unread.length = 0;
    this.unanswered.length = 0;
  }
}
