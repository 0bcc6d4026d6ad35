/**
 * Messages out of a stream socket: in pieces or several at once, each with the descriptors that came with its bytes. Reads as
 * DPDK and QEMU do, the header first and then exactly its payload, so that descriptors stay with their message (dpdk
 * read_vhost_message()).
 */
import type { FdTable } from '../../kernel/files.ts';
import type { UnixSocket } from '../../kernel/unix-socket.ts';
import { viewOf } from '../../wire/struct.ts';
import { VHOST_USER_FDS_MAX, vhost_user_header } from '../../wire/vhost-user.ts';
import { headerOk } from '../../wire/vhost-user-codec.ts';

export interface Framed {
  readonly bytes: Uint8Array;
  /** In the reader's table; the reader closes those that it does not keep. */
  readonly fds: number[];
}
/**
 * `wait`: nothing more is there yet. `end`: the other side closed between two messages. `truncated`: it closed within one.
 * `malformed`: what came is no header. `descriptors`: more of them than a message can have.
 */
export type NoMessage = 'wait' | 'end' | 'truncated' | 'malformed' | 'descriptors';

export class MessageReader {
  private readonly socket: UnixSocket;
  private readonly table: FdTable;
  private bytes = new Uint8Array(0);
  private fds: number[] = [];

  constructor(socket: UnixSocket, table: FdTable) {
    this.socket = socket;
    this.table = table;
  }

  /** The next message. After anything but `wait` the connection is of no more use. */
  next(): Framed | NoMessage {
    for (;;) {
      const whole = this.wanted();
      if (whole < 0) return 'malformed';
      if (this.bytes.length === whole) {
        const message = { bytes: this.bytes, fds: this.fds };
        this.bytes = new Uint8Array(0);
        this.fds = [];
        return message;
      }
      const got = this.socket.receive(whole - this.bytes.length, this.table);
      if (typeof got === 'number') return 'wait';
      this.fds.push(...got.fds);
      if (this.fds.length > VHOST_USER_FDS_MAX) return 'descriptors';
      if (got.bytes.length === 0) return this.bytes.length === 0 ? 'end' : 'truncated';
      const joined = new Uint8Array(this.bytes.length + got.bytes.length);
      joined.set(this.bytes);
      joined.set(got.bytes, this.bytes.length);
      this.bytes = joined;
    }
  }
  /** Bytes of the message that is being read: the header's, then with its payload; -1 where the header is none. */
  private wanted(): number {
    if (this.bytes.length < vhost_user_header.SIZE) return vhost_user_header.SIZE;
    if (!headerOk(this.bytes)) return -1;
    return vhost_user_header.SIZE + vhost_user_header.size.get(viewOf(this.bytes), 0);
  }

  /** The connection ends: descriptors of a message that did not come whole are closed. */
  close(): void {
    for (const fd of this.fds) this.table.close(fd);
    this.fds = [];
    this.bytes = new Uint8Array(0);
  }
}
