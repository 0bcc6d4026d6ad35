/**
 * The back-end's side of a vhost-user connection: what OVS-DPDK's vhost library does with each message, on the VhostSession
 * behind, with the descriptors and mappings of its process. What the data path has to know goes through the hooks.
 *
 * A message that is malformed, not allowed or refused closes the connection, but for one that asked for a reply and can be
 * told (QEMU docs/interop/vhost-user.rst; dpdk vhost_user_msg_handler()); nothing throws. Whatever way it ends, every
 * descriptor and mapping that came over it is let go of.
 */
import { assert } from '../../../engine/assert.ts';
import { VHOST_USER_CLOSE, VHOST_USER_REPLY, VHOST_USER_RING } from '../../../engine/events.ts';
import { EBUSY, EINVAL } from '../../kernel/errno.ts';
import { FdTable, type OpenFile } from '../../kernel/files.ts';
import { Mappings } from '../../kernel/memory-file.ts';
import type { UnixSocket } from '../../kernel/unix-socket.ts';
import {
  type Features,
  hasFeature,
  sameFeatures,
  VHOST_F_LOG_ALL,
  VIRTIO_F_RING_PACKED,
} from '../../virtio/features.ts';
import { VHOST_ACCESS_RW, VHOST_IOTLB_INVALIDATE, VHOST_IOTLB_MISS, VHOST_IOTLB_UPDATE } from '../../wire/vhost.ts';
import { VHOST_USER_REPLY_MASK } from '../../wire/vhost-user.ts';
import {
  decodeMessage,
  encodeMessage,
  fdRange,
  NO_PAYLOAD,
  payloadSizeOk,
  u64Payload,
  vringStatePayload,
} from '../../wire/vhost-user-codec.ts';
import { vhostUserMessage } from '../../wire/vhost-user-messages.ts';
import * as R from '../../wire/vhost-user-requests.ts';
import { virtqAvailBytes, virtqDescBytes, virtqUsedBytes } from '../../wire/virtio-ring.ts';
import type { Trace } from '../kernel/vhost-net.ts';
import { NO_FD, type VhostSession, type Vring } from '../session.ts';
import { BackendChannel } from './backend-channel.ts';
import { BackendIotlb, type IotlbMessage, iotlbPayload } from './backend-iotlb.ts';
import { BackendMemory } from './backend-memory.ts';
import { handleRequest } from './backend-requests.ts';
import { type CloseReason, closeCode } from './close-reasons.ts';
import { MessageReader } from './framing.ts';
import { type BackendProfile, DPDK_22_11, vhostUserSession } from './profiles.ts';

/** What the owner of the data path wants to know; each runs while the message is handled. */
export interface BackendHooks {
  /** The ring is served from now on: started, enabled, and its addresses are known. Its `base` says where to begin. */
  onStart?(vring: Vring): void;
  /** No more: answers where the ring stands, as VHOST_USER_GET_VRING_BASE does; undefined leaves `base` as it is. */
  onStop?(vring: Vring): number | undefined;
  /** SET_VRING_ENABLE, also of a ring that has not started. */
  onEnable?(vring: Vring, enabled: boolean): void;
  /** Guest memory is elsewhere: regions of the session. */
  onMemory?(): void;
  onFeatures?(features: Features): void;
  /** The dirty log came, or went. */
  onLog?(): void;
  /** An UPDATE or an INVALIDATE of the vIOMMU, checked; 0, or a negative errno. */
  onIotlb?(message: IotlbMessage): number;
  /** SEND_RARP: 48 bits, first byte highest. */
  onRarp?(mac: number): void;
  onMtu?(mtu: number): void;
  onStatus?(status: number): void;
  /** An in-band kick. */
  onKick?(vring: Vring): void;
  /** SET_CONFIG: bytes from `offset` on. */
  onConfig?(offset: number, bytes: Uint8Array): void;
  onClose?(reason: CloseReason): void;
}
export interface BackendOptions {
  readonly trace?: Trace;
  readonly profile?: BackendProfile;
  /** Rings of the guest's device. */
  readonly vrings?: number;
  /** Of the back-end's process. */
  readonly table?: FdTable;
  readonly mappings?: Mappings;
  readonly hooks?: BackendHooks;
  /** Bytes of the device's configuration space (CONFIG). */
  readonly config?: Uint8Array;
  /** Behind a vIOMMU: the data path translates the rings' areas itself and asks for what it misses. */
  readonly dataPathTranslates?: boolean;
}
/** Answer of a request that is always answered. */
export interface Reply {
  readonly payload: Uint8Array;
  readonly files: readonly OpenFile[];
}

/** Column `b` of the event of a ring's state. */
export const RING_STOPPED = 0;
export const RING_DISABLED = 1;
export const RING_SERVED = 2;

export class VhostUserBackend {
  readonly session: VhostSession;
  readonly profile: BackendProfile;
  readonly table: FdTable;
  readonly mappings: Mappings;
  readonly memory: BackendMemory;
  readonly iotlb = new BackendIotlb();
  readonly channel: BackendChannel;
  readonly hooks: BackendHooks;
  readonly config: Uint8Array;
  closed = false;
  /** Why the connection was closed; for people. */
  closeReason = '';
  closeCode: CloseReason | null = null;
  /** Files beside the last reply of `receive`. */
  replyFiles: readonly OpenFile[] = [];
  private readonly trace: Trace;
  private readonly dataPathTranslates: boolean;
  /** Set while no reply is sent: a test's or a fault's doing. */
  mute = false;
  private socketFd = NO_FD;
  private socket: UnixSocket | null = null;
  private reader: MessageReader | null = null;
  /** By ring: RING_… */
  private readonly states: number[];

  constructor(options: BackendOptions = {}) {
    this.trace = options.trace ?? (() => {});
    this.dataPathTranslates = options.dataPathTranslates ?? false;
    this.profile = options.profile ?? DPDK_22_11;
    this.session = vhostUserSession(this.profile, options.vrings ?? 2);
    this.table = options.table ?? new FdTable();
    this.mappings = options.mappings ?? new Mappings();
    this.hooks = options.hooks ?? {};
    this.config = options.config ?? new Uint8Array(0);
    this.memory = new BackendMemory(this.session, this.table, this.mappings);
    this.channel = new BackendChannel(this.table, this.trace);
    this.states = this.session.vrings.map(() => RING_STOPPED);
  }

  // ---- the socket ---------------------------------------------------------------------------------------------------
  /** Takes its end of the connection. */
  attach(socket: UnixSocket): void {
    assert(this.socket === null && !this.closed, 'a back-end has one connection in its life');
    this.socketFd = this.table.install(socket);
    this.socket = socket;
    this.reader = new MessageReader(socket, this.table);
  }
  /** Reads and handles all that waits on both channels. */
  serve(): void {
    if (!this.channel.serve()) {
      this.close('wrong reply', 0);
      return;
    }
    while (!this.closed && this.reader !== null && this.socket !== null) {
      const got = this.reader.next();
      if (got === 'wait') return;
      if (typeof got === 'string') {
        this.close(
          got === 'end'
            ? 'the other side closed'
            : got === 'truncated'
              ? 'truncated message'
              : got === 'malformed'
                ? 'malformed header'
                : 'number of file descriptors',
          0,
        );
        return;
      }
      const reply = this.receive(got.bytes, got.fds);
      if (reply === null || this.mute) continue;
      if ((this.socket as UnixSocket).send(reply, this.replyFiles) < 0) this.close('send failed', 0);
    }
  }

  /**
   * One message of the front-end; `fds` are of the back-end's table and belong to it. Returns the reply's bytes (files beside
   * it: `replyFiles`), or null: no reply, or the connection is closed (see `closed`).
   */
  receive(bytes: Uint8Array, fds: readonly number[]): Uint8Array | null {
    const left = [...fds];
    this.replyFiles = [];
    const reply = this.closed ? null : this.take(bytes, left);
    // what the message was not for
    for (const fd of left) if (fd !== NO_FD) this.table.close(fd);
    return reply;
  }
  private take(bytes: Uint8Array, fds: number[]): Uint8Array | null {
    const message = decodeMessage(bytes);
    if (message === null || message.reply) return this.close('malformed header', 0);
    const { request } = message;
    const { session: s } = this;
    const asks = message.needReply && s.hasProtocolFeature(R.VHOST_USER_PROTOCOL_F_REPLY_ACK);
    const kind = vhostUserMessage(request);
    // what is for other devices is refused as DPDK does what it does not know
    if (kind === undefined || !kind.net) {
      if (asks) return this.reply(request, u64Payload(1));
      return kind === undefined
        ? this.close('unknown request', request, String(request))
        : this.close('not for a network device', request, kind.name);
    }
    if (!payloadSizeOk(kind.payload, message.payload)) return this.close('payload size', request, kind.name);
    if (!kind.needs.every((bit) => s.hasProtocolFeature(bit))) return this.close('not negotiated', request, kind.name);
    const [fewest, most] = fdRange(kind, message.payload);
    if (fds.length < fewest || fds.length > most) return this.close('number of file descriptors', request, kind.name);

    const result = handleRequest(this, request, message.payload, fds);
    if (this.closed) return null;
    if (typeof result !== 'number') {
      this.replyFiles = result.files;
      return this.reply(request, result.payload);
    }
    this.transitions();
    if (result >= 0 && kind.reply === 'none') return this.reply(request, NO_PAYLOAD);
    const always = kind.reply !== null && (request !== R.VHOST_USER_IOTLB_MSG || this.profile.answersIotlb);
    if (asks || (always && kind.reply === 'u64')) return this.reply(request, u64Payload(result < 0 ? 1 : 0));
    return result < 0 ? this.close('refused', request, `${kind.name}: error ${-result}`) : null;
  }
  private reply(request: number, payload: Uint8Array): Uint8Array {
    const message = encodeMessage(request, VHOST_USER_REPLY_MASK, payload);
    this.trace(VHOST_USER_REPLY, request, payload.length, message);
    return message;
  }

  // ---- the rings ----------------------------------------------------------------------------------------------------
  get packed(): boolean {
    return hasFeature(this.session.features, VIRTIO_F_RING_PACKED);
  }
  /** Served: started, enabled, and with an IOMMU its areas are translated. */
  serving(index: number): boolean {
    const v = this.session.vrings[index];
    if (v === undefined || !this.session.running(index)) return false;
    return !this.session.translates || this.dataPathTranslates || this.firstMissing(v) < 0;
  }
  /** First address of a ring's areas without a translation, or -1; in DPDK's order (translate_ring_addresses()). */
  private firstMissing(v: Vring): number {
    const desc = this.iotlb.firstMissing(v.desc_user_addr, virtqDescBytes(v.num));
    if (desc >= 0) return desc;
    const avail = this.iotlb.firstMissing(v.avail_user_addr, this.packed ? 4 : virtqAvailBytes(v.num));
    return avail >= 0 ? avail : this.iotlb.firstMissing(v.used_user_addr, this.packed ? 4 : virtqUsedBytes(v.num));
  }
  /** The addresses of a ring that is enabled are looked up as soon as they are known; the front-end is asked for the first gap. */
  lookUp(v: Vring): void {
    if (!this.session.translates || this.dataPathTranslates || !v.enabled || v.num === 0 || v.used_user_addr === 0)
      return;
    const missing = this.firstMissing(v);
    if (missing >= 0) this.iotlbMiss(missing, VHOST_ACCESS_RW);
  }
  /** Compares what each ring was with what it is, and says what changed. */
  transitions(): void {
    for (const v of this.session.vrings) {
      const before = this.states[v.index]!;
      const now = this.serving(v.index) ? RING_SERVED : v.started ? RING_DISABLED : RING_STOPPED;
      if (now === before) continue;
      this.states[v.index] = now;
      this.trace(VHOST_USER_RING, v.index, now);
      if (now === RING_SERVED) this.hooks.onStart?.(v);
      else if (before === RING_SERVED) v.base = this.hooks.onStop?.(v) ?? v.base;
    }
  }
  /** The ring is about to stop: the data path says where it stands while it is still there. */
  stopping(v: Vring): void {
    if (this.states[v.index] === RING_SERVED) v.base = this.hooks.onStop?.(v) ?? v.base;
    if (this.states[v.index] !== RING_STOPPED) this.trace(VHOST_USER_RING, v.index, RING_STOPPED);
    this.states[v.index] = RING_STOPPED;
  }
  /** A ring's descriptor is replaced; NO_FD takes it away. */
  setFd(v: Vring, which: 'kick' | 'call' | 'err', fd: number): void {
    if (v[which] !== NO_FD && v[which] !== fd) this.table.close(v[which]);
    v[which] = fd;
  }
  closeFds(v: Vring): void {
    for (const which of ['kick', 'call', 'err'] as const) this.setFd(v, which, NO_FD);
  }
  setFeatures(features: Features): number {
    const { session: s } = this;
    const live = s.vrings.some((v) => v.started);
    const before = s.features;
    const without = ({ lo, hi }: Features): Features => ({ lo: (lo & ~(1 << VHOST_F_LOG_ALL)) >>> 0, hi });
    // dpdk vhost_user_set_features(): of a device that runs only the log may change
    if (live && !sameFeatures(without(before), without(features))) return -EBUSY;
    const result = s.setFeatures(features);
    if (result === 0) this.hooks.onFeatures?.(features);
    return result;
  }

  // ---- dirty log ----------------------------------------------------------------------------------------------------
  /** Does the front-end want to know what is written? */
  get logging(): boolean {
    return this.memory.log !== null && hasFeature(this.session.features, VHOST_F_LOG_ALL);
  }
  /** The data path wrote `length` bytes of a buffer at the guest-physical address `gpa`. */
  logWrite(gpa: number, length: number): void {
    if (this.logging) this.memory.log!.mark(gpa, length);
  }
  /** The data path wrote `length` bytes of a used ring, `offset` bytes behind its start. */
  logUsed(v: Vring, offset: number, length: number): void {
    if (v.logs && this.logging) this.memory.log!.mark(v.log_guest_addr + offset, length);
  }

  // ---- requests of the back-end -------------------------------------------------------------------------------------
  /** An address without a translation: the front-end is asked once. 0, or a negative errno of the channel. */
  iotlbMiss(iova: number, perm: number): number {
    if (!this.iotlb.miss(iova, perm)) return 0;
    const message = { iova, size: 0, uaddr: 0, perm, type: VHOST_IOTLB_MISS };
    return this.channel.request(R.VHOST_USER_BACKEND_IOTLB_MSG, iotlbPayload(message));
  }
  /** An UPDATE or INVALIDATE of the front-end. */
  iotlbMessage(message: IotlbMessage): number {
    const { iova, size, uaddr, type } = message;
    if (!this.session.translates || iova < 0 || size <= 0) return -EINVAL;
    if (type === VHOST_IOTLB_UPDATE) {
      // the update must lie inside the memory table (dpdk qva_to_vva())
      if (uaddr < 0 || this.session.translate(uaddr, size) < 0) return -EINVAL;
      this.iotlb.update(message);
    } else if (type === VHOST_IOTLB_INVALIDATE) this.iotlb.invalidate(iova, size);
    else return -EINVAL;
    const result = this.hooks.onIotlb?.(message) ?? 0;
    if (type === VHOST_IOTLB_UPDATE) for (const v of this.session.vrings) this.lookUp(v);
    return result;
  }
  /** The configuration changed: the front-end may read it again. */
  configChanged(): number {
    return this.session.hasProtocolFeature(R.VHOST_USER_PROTOCOL_F_CONFIG)
      ? this.channel.request(R.VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, NO_PAYLOAD)
      : -EINVAL;
  }
  /** Used buffers, or an error, of a ring without a descriptor for it: in band. */
  notifyInBand(index: number, what: 'call' | 'err'): number {
    if (!this.session.hasProtocolFeature(R.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS)) return -EINVAL;
    const request = what === 'call' ? R.VHOST_USER_BACKEND_VRING_CALL : R.VHOST_USER_BACKEND_VRING_ERR;
    return this.channel.request(request, vringStatePayload(index, 0));
  }

  // ---- the end ------------------------------------------------------------------------------------------------------
  /** The end of the connection, also when the front-end goes away: rings stop, everything is let go of. */
  disconnect(reason: CloseReason = 'disconnected'): void {
    this.close(reason, 0);
  }
  close(reason: CloseReason, request: number, what = ''): null {
    if (this.closed) return null;
    this.closed = true;
    this.closeCode = reason;
    this.closeReason = what === '' ? reason : `${reason}: ${what}`;
    const { session: s } = this;
    for (const v of s.vrings) {
      this.stopping(v);
      v.started = false;
      this.closeFds(v);
    }
    this.memory.close();
    this.iotlb.clear();
    this.channel.close();
    this.reader?.close();
    if (this.socketFd !== NO_FD) this.table.close(this.socketFd);
    this.socketFd = NO_FD;
    this.socket = null;
    this.trace(VHOST_USER_CLOSE, closeCode(reason), request);
    this.hooks.onClose?.(reason);
    return null;
  }
}
