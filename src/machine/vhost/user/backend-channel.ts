/**
 * The back-end's end of the second channel, which SET_BACKEND_REQ_FD brought: its own requests to the front-end, and what the
 * front-end answers to those that asked for it. Owner: the back-end's process.
 */
import { VHOST_USER_BACKEND_REQUEST } from '../../../engine/events.ts';
import { EBADF, EINVAL } from '../../kernel/errno.ts';
import type { FdTable, OpenFile } from '../../kernel/files.ts';
import { UnixSocket } from '../../kernel/unix-socket.ts';
import { viewOf } from '../../wire/struct.ts';
import { VHOST_USER_NEED_REPLY_MASK, vhost_user_u64 } from '../../wire/vhost-user.ts';
import { decodeMessage, encodeMessage } from '../../wire/vhost-user-codec.ts';
import type { Trace } from '../kernel/vhost-net.ts';
import { NO_FD } from '../session.ts';
import { MessageReader } from './framing.ts';

export class BackendChannel {
  fd = NO_FD;
  /** The front-end refused, or answered what nobody had asked: reply payload's low word, by request. */
  refusals = 0;
  private socket: UnixSocket | null = null;
  private reader: MessageReader | null = null;
  private readonly table: FdTable;
  private readonly trace: Trace;
  /** Requests that wait for their answer, oldest first. */
  private readonly asked: number[] = [];

  constructor(table: FdTable, trace: Trace) {
    this.table = table;
    this.trace = trace;
  }

  /** SET_BACKEND_REQ_FD: a second one takes the place of the first (dpdk vhost_user_set_req_fd()). */
  open(fd: number): number {
    const file = this.table.file(fd);
    if (!(file instanceof UnixSocket)) return -EINVAL;
    this.close();
    this.fd = fd;
    this.socket = file;
    this.reader = new MessageReader(file, this.table);
    return 0;
  }
  get isOpen(): boolean {
    return this.socket !== null;
  }
  /** Requests without their answer. */
  get waiting(): number {
    return this.asked.length;
  }

  /** Sends a request: 0, or a negative errno (nobody there, no room). */
  request(id: number, payload: Uint8Array, needReply = false, files: readonly OpenFile[] = []): number {
    if (this.socket === null) return -EBADF;
    const message = encodeMessage(id, needReply ? VHOST_USER_NEED_REPLY_MASK : 0, payload);
    const sent = this.socket.send(message, files);
    if (sent < 0) return sent;
    if (needReply) this.asked.push(id);
    this.trace(VHOST_USER_BACKEND_REQUEST, id, payload.length, message);
    return 0;
  }
  /** Reads answers. False: the channel is of no more use and has been closed. */
  serve(): boolean {
    const { reader } = this;
    if (reader === null) return true;
    for (;;) {
      const got = reader.next();
      if (got === 'wait') return true;
      if (typeof got === 'string') {
        this.close();
        return got === 'end';
      }
      for (const fd of got.fds) this.table.close(fd);
      const message = decodeMessage(got.bytes);
      const due = this.asked.shift();
      if (message?.reply !== true || message.request !== due || message.payload.length !== vhost_user_u64.SIZE) {
        this.close();
        return false;
      }
      const m = viewOf(message.payload);
      if (vhost_user_u64.lo.get(m, 0) !== 0 || vhost_user_u64.hi.get(m, 0) !== 0) this.refusals++;
    }
  }
  close(): void {
    this.reader?.close();
    if (this.fd !== NO_FD) this.table.close(this.fd);
    this.fd = NO_FD;
    this.socket = null;
    this.reader = null;
    this.asked.length = 0;
  }
}
