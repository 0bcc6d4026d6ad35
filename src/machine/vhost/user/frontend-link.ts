/**
 * QEMU's end of a vhost-user connection: the socket, requests with and without an answer, the second channel. A request that
 * is answered waits for its answer; what comes is checked, and a peer that errs loses its connection.
 *
 * Read first: qemu hw/virtio/vhost-user.c, vhost_user_write(), vhost_user_read(), process_message_reply(), slave_read().
 */
import { assert } from '../../../engine/assert.ts';
import { VHOST_USER_BACKEND_REPLY, VHOST_USER_CLOSE, VHOST_USER_REQUEST } from '../../../engine/events.ts';
import { EINVAL, EPIPE, EPROTO } from '../../kernel/errno.ts';
import type { FdTable, OpenFile } from '../../kernel/files.ts';
import { socketPair, type UnixSocket } from '../../kernel/unix-socket.ts';
import { viewOf } from '../../wire/struct.ts';
import { VHOST_USER_NEED_REPLY_MASK, VHOST_USER_REPLY_MASK, vhost_user_u64 } from '../../wire/vhost-user.ts';
import {
  type DecodedMessage,
  decodeMessage,
  encodeMessage,
  fdRange,
  NO_PAYLOAD,
  payloadSizeOk,
  u64Payload,
} from '../../wire/vhost-user-codec.ts';
import { vhostUserBackendMessage } from '../../wire/vhost-user-messages.ts';
import * as R from '../../wire/vhost-user-requests.ts';
import type { Trace } from '../kernel/vhost-net.ts';
import { NO_FD } from '../session.ts';
import { type CloseReason, closeCode } from './close-reasons.ts';
import { MessageReader } from './framing.ts';

/** A request of the back-end, checked for its length and its descriptors. */
export interface BackendRequest {
  readonly request: number;
  readonly payload: Uint8Array;
  /** In the front-end's table; closed after the handler has run. */
  readonly fds: readonly number[];
}
export interface LinkOptions {
  /** Descriptors of QEMU's process. */
  readonly table: FdTable;
  readonly trace?: Trace;
  /**
   * Longest wait for an answer, ns of virtual time.
   * DEVIATION: QEMU waits for ever, and its guest with it; here the connection is closed then.
   */
  readonly replyTimeoutNs?: number;
}
/** Longer than any answer takes; who wants to see a hang says so. */
const REPLY_TIMEOUT_NS = 10_000_000_000;
/** One answer: the message and the descriptors beside it. */
export interface Answer {
  readonly message: DecodedMessage;
  readonly fds: number[];
}

export class FrontendLink {
  readonly table: FdTable;
  closed = true;
  closeReason = '';
  closeCode: CloseReason | null = null;
  /** Time that requests have waited for late answers, ns; whoever runs QEMU charges it. */
  waitedNs = 0;
  /** How late the next answer is, ns: a fault, and 0 otherwise. */
  latenessNs = 0;
  /** Protocol features that are negotiated. */
  protocolFeatures = 0;
  /** There is something to read on the second channel. */
  onBackendReadable: (() => void) | null = null;
  /** Answers a request of the back-end: 0, or a negative errno. */
  onBackendMessage: ((request: BackendRequest) => number) | null = null;
  onClose: ((reason: CloseReason) => void) | null = null;
  /** The other end is closed: whoever is called closes this one when QEMU's main loop comes to it. null: at once. */
  onHangUp: (() => void) | null = null;
  private readonly trace: Trace;
  private readonly timeout: number;
  private socketFd = NO_FD;
  private socket: UnixSocket | null = null;
  private reader: MessageReader | null = null;
  private channelFd = NO_FD;
  private channel: UnixSocket | null = null;
  private channelReader: MessageReader | null = null;

  constructor({ table, trace, replyTimeoutNs }: LinkOptions) {
    this.table = table;
    this.trace = trace ?? (() => {});
    this.timeout = replyTimeoutNs ?? REPLY_TIMEOUT_NS;
  }

  /** The socket is connected. */
  open(socket: UnixSocket): void {
    assert(this.closed, 'one connection at a time');
    this.socketFd = this.table.install(socket);
    this.socket = socket;
    this.reader = new MessageReader(socket, this.table);
    this.closed = false;
    this.closeReason = '';
    this.closeCode = null;
    this.protocolFeatures = 0;
    socket.onReadable = () => {
      if (socket.hungUp && this.socket === socket) this.hangUp();
    };
  }
  has(bit: number): boolean {
    return ((this.protocolFeatures >>> bit) & 1) === 1;
  }

  /** Sends a request with descriptors of QEMU's table: 0, or a negative errno, and the connection is closed. */
  send(request: number, payload: Uint8Array = NO_PAYLOAD, fds: readonly number[] = [], flags = 0): number {
    if (this.socket === null) return -EPIPE;
    const files: OpenFile[] = [];
    for (const fd of fds) {
      const file = this.table.file(fd);
      if (file === undefined) return -EINVAL;
      files.push(file);
    }
    const message = encodeMessage(request, flags, payload);
    this.trace(VHOST_USER_REQUEST, request, payload.length, message);
    if (this.socket.send(message, files) >= 0) return 0;
    this.close('send failed', request);
    return -EPIPE;
  }
  /** Waits for the answer to `request`; null: there is none, or another, and the connection is closed. */
  read(request: number, mostFds = 0): Answer | null {
    const { reader } = this;
    if (reader === null) return null;
    const late = this.latenessNs;
    this.latenessNs = 0;
    this.waitedNs += Math.min(late, this.timeout);
    if (late > this.timeout) return this.close('late reply', request);
    const got = reader.next();
    if (got === 'end') return this.close('the other side closed', request);
    if (got === 'truncated') return this.close('truncated message', request);
    if (got === 'malformed') return this.close('malformed header', request);
    if (got === 'descriptors') return this.close('number of file descriptors', request);
    if (got === 'wait') {
      this.waitedNs += this.timeout;
      return this.close('no reply', request);
    }
    const message = decodeMessage(got.bytes);
    const right = message?.reply === true && !message.needReply && message.request === request;
    if (right && got.fds.length <= mostFds) return { message, fds: got.fds };
    for (const fd of got.fds) this.table.close(fd);
    return this.close(right ? 'number of file descriptors' : 'wrong reply', request);
  }

  /** For a request that is always answered by a payload of 8 bytes. */
  ask(request: number, payload: Uint8Array = NO_PAYLOAD, flags = 0): DataView | null {
    if (this.send(request, payload, [], flags) < 0) return null;
    const answer = this.read(request);
    if (answer === null) return null;
    if (answer.message.payload.length === vhost_user_u64.SIZE) return viewOf(answer.message.payload);
    return this.close('wrong reply', request);
  }
  /** With need_reply where REPLY_ACK is there: 0, or -EPROTO where the back-end says no, -EPIPE where it is gone. */
  sendAcked(request: number, payload: Uint8Array, fds: readonly number[] = []): number {
    if (!this.has(R.VHOST_USER_PROTOCOL_F_REPLY_ACK)) return this.send(request, payload, fds);
    const sent = this.send(request, payload, fds, VHOST_USER_NEED_REPLY_MASK);
    return sent < 0 ? sent : this.acknowledged(request);
  }
  /** The u64 that says whether a request was done. */
  acknowledged(request: number): number {
    const answer = this.read(request);
    if (answer === null) return -EPIPE;
    const { payload } = answer.message;
    if (payload.length !== vhost_user_u64.SIZE) {
      this.close('wrong reply', request);
      return -EPIPE;
    }
    const m = viewOf(payload);
    return vhost_user_u64.lo.get(m, 0) === 0 && vhost_user_u64.hi.get(m, 0) === 0 ? 0 : -EPROTO;
  }

  // ---- the second channel -------------------------------------------------------------------------------------------
  /** A pair of sockets, one end of which goes to the back-end (vhost_setup_slave_channel()). */
  openChannel(name: string): number {
    const [mine, theirs] = socketPair(name);
    this.closeChannel();
    this.channelFd = this.table.install(mine);
    const fd = this.table.install(theirs);
    this.channel = mine;
    this.channelReader = new MessageReader(mine, this.table);
    mine.onReadable = () => this.onBackendReadable?.();
    const result = this.sendAcked(R.VHOST_USER_SET_BACKEND_REQ_FD, NO_PAYLOAD, [fd]);
    this.table.close(fd);
    if (result < 0) this.closeChannel();
    return result;
  }
  /** Reads requests of the back-end and has them answered (slave_read()); what is wrong with one ends the channel. Returns their number. */
  serveBackend(): number {
    for (let n = 0; ; n++) {
      const got = this.channelReader === null ? 'wait' : this.channelReader.next();
      if (got === 'wait') return n;
      if (typeof got === 'string') {
        this.closeChannel();
        return n;
      }
      const message = decodeMessage(got.bytes);
      const row = message === null ? undefined : vhostUserBackendMessage(message.request);
      const ok = message !== null && row !== undefined && !message.reply && payloadSizeOk(row.payload, message.payload);
      const [fewest, most] = ok ? fdRange(row, message.payload) : [0, 0];
      if (!ok || got.fds.length < fewest || got.fds.length > most) {
        for (const fd of got.fds) this.table.close(fd);
        this.closeChannel();
        return n;
      }
      const result = this.onBackendMessage?.({ request: row.id, payload: message.payload, fds: got.fds }) ?? -EINVAL;
      for (const fd of got.fds) this.table.close(fd);
      if (message.needReply) this.replyBackend(row.id, result);
    }
  }
  private replyBackend(request: number, result: number): void {
    const message = encodeMessage(request, VHOST_USER_REPLY_MASK, u64Payload(result < 0 ? 1 : 0));
    this.trace(VHOST_USER_BACKEND_REPLY, request, vhost_user_u64.SIZE, message);
    if (this.channel !== null && this.channel.send(message) < 0) this.closeChannel();
  }
  private closeChannel(): void {
    if (this.channelFd === NO_FD) return;
    this.channelReader?.close();
    this.table.close(this.channelFd);
    this.channelFd = NO_FD;
    this.channel = null;
    this.channelReader = null;
  }

  // ---- the end ------------------------------------------------------------------------------------------------------
  /** The other end is closed: what it had sent before may be an answer that is waited for, so the reader decides. */
  private hangUp(): void {
    if (this.socket === null || this.socket.waiting > 0) return;
    if (this.onHangUp === null) this.close('the other side closed', 0);
    else this.onHangUp();
  }
  /** Ends the connection; QEMU's own files (memory, eventfds) stay open. */
  close(reason: CloseReason, request = 0): null {
    if (this.closed) return null;
    this.closed = true;
    this.closeCode = reason;
    this.closeReason = reason;
    this.closeChannel();
    this.reader?.close();
    this.table.close(this.socketFd);
    this.socketFd = NO_FD;
    this.socket = null;
    this.reader = null;
    this.trace(VHOST_USER_CLOSE, closeCode(reason), request);
    this.onClose?.(reason);
    return null;
  }
}
