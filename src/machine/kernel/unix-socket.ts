/**
 * A connected pair of Unix stream sockets, as socketpair(AF_UNIX, SOCK_STREAM) or connect() and accept() make them: bytes in
 * order, and files beside them (SCM_RIGHTS). What waits in one end's queue is bounded, and is let go of with that end.
 *
 * As in Linux a read does not go past bytes that have files: the files come with the first byte that they were sent with
 * (linux net/unix/af_unix.c, unix_stream_read_generic(), unix_scm_to_skb()).
 */
import { EAGAIN, EINVAL, EPIPE } from './errno.ts';
import { type FdTable, OpenFile } from './files.ts';

/** linux net.core.wmem_default on x86-64. */
export const SO_SNDBUF_DEFAULT = 212_992;
/** linux SCM_MAX_FD. */
export const SCM_MAX_FD = 253;

interface Sent {
  bytes: Uint8Array;
  readonly files: OpenFile[];
}
/** What one read brought: bytes, and the descriptors that the files have now in the reader's table. */
export interface Received {
  readonly bytes: Uint8Array;
  readonly fds: number[];
}
const EOF: Received = { bytes: new Uint8Array(0), fds: [] };

export class UnixSocket extends OpenFile {
  /** Bytes that may wait to be read. */
  readonly limit: number;
  /** Somebody has to know that there is something to read, or that the other end has gone. */
  onReadable: (() => void) | null = null;
  /** The other end has been closed. What it had sent before can still be read. */
  hungUp = false;
  private peer: UnixSocket | null = null;
  private readonly queue: Sent[] = [];
  private queued = 0;

  constructor(name: string, limit = SO_SNDBUF_DEFAULT) {
    super(name);
    this.limit = limit;
  }
  static join(a: UnixSocket, b: UnixSocket): void {
    a.peer = b;
    b.peer = a;
  }

  /** Bytes that wait to be read here. */
  get waiting(): number {
    return this.queued;
  }
  /** Is there anything to read, be it the end? */
  get readable(): boolean {
    return this.queue.length > 0 || this.hungUp;
  }

  /**
   * sendmsg(2): all the bytes with these files beside the first. The bytes' number, or -EPIPE without another end, -EAGAIN
   * where they have no room, -EINVAL for no bytes or too many files. The files are open until they are received.
   */
  send(bytes: Uint8Array, files: readonly OpenFile[] = []): number {
    const { peer } = this;
    if (peer === null || this.hungUp) return -EPIPE;
    if (bytes.length === 0 || files.length > SCM_MAX_FD) return -EINVAL;
    if (peer.queued + bytes.length > peer.limit) return -EAGAIN;
    for (const f of files) f.references++;
    peer.queue.push({ bytes: bytes.slice(), files: [...files] });
    peer.queued += bytes.length;
    peer.onReadable?.();
    return bytes.length;
  }
  /** recvmsg(2): up to `most` bytes; descriptors are made in `table`. No bytes: the end. -EAGAIN where nothing waits. */
  receive(most: number, table: FdTable): Received | number {
    const first = this.queue[0];
    if (first === undefined) return this.hungUp ? EOF : -EAGAIN;
    const fds = first.files.map((f) => {
      const fd = table.install(f);
      f.put();
      return fd;
    });
    first.files.length = 0;
    const pieces: Uint8Array[] = [];
    let taken = 0;
    while (taken < most) {
      const sent = this.queue[0];
      if (sent === undefined || sent.files.length > 0) break;
      const n = Math.min(sent.bytes.length, most - taken);
      pieces.push(sent.bytes.subarray(0, n));
      taken += n;
      if (n === sent.bytes.length) this.queue.shift();
      else sent.bytes = sent.bytes.subarray(n);
    }
    this.queued -= taken;
    const bytes = new Uint8Array(taken);
    let at = 0;
    for (const p of pieces) {
      bytes.set(p, at);
      at += p.length;
    }
    return { bytes, fds };
  }

  /** The last descriptor was closed: what was not read is lost, files in it are let go of, the other end sees the end. */
  protected override released(): void {
    const { peer } = this;
    this.peer = null;
    this.onReadable = null;
    this.hungUp = true;
    const unread = this.queue.splice(0);
    this.queued = 0;
    for (const { files } of unread) for (const f of files) f.put();
    if (peer === null) return;
    peer.peer = null;
    peer.hungUp = true;
    peer.onReadable?.();
  }
}

/** Two ends, not yet open in any process: whoever installs one has it. */
export function socketPair(name = 'socket', limit = SO_SNDBUF_DEFAULT): [UnixSocket, UnixSocket] {
  const a = new UnixSocket(`socket:[${name}]`, limit);
  const b = new UnixSocket(`socket:[${name}, other end]`, limit);
  UnixSocket.join(a, b);
  return [a, b];
}
