/**
 * One connection: a socket of the machine that this runs on, and the session that it carries. What a session throws, and what a
 * socket suffers, ends this connection only.
 */

import type { Socket } from 'node:net';
import type { Peer, Session } from '../machine/ovs/stream.ts';
import { stayAwake } from './awake.ts';
import { errorText } from './errors.ts';

/** Bytes that wait for the other side: from here on nothing more is read from it until it has taken them. */
export const PAUSE_BYTES = 1024 * 1024;
/** Bytes that wait for the other side: more than that it will not be given, it is cut off. */
export const QUEUE_BYTES = 64 * 1024 * 1024;
/** What setTimeout() takes; a longer time would be none. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** Seconds that what was sent before the end may take. */
const CLOSING_TICKS = 5;

export class Connection implements Peer {
  readonly name: string;
  private readonly socket: Socket;
  private session: Session | null = null;
  private ended: (() => void) | null;
  private failure: string | null = null;
  private closing = false;
  private closingTicks = 0;
  /** A tick that the session asked for, and when it comes. */
  private wake: NodeJS.Timeout | null = null;
  private wakeAt = 0;

  /** `ended` is called once, when the session has been told. */
  constructor(socket: Socket, name: string, ended: () => void) {
    this.socket = socket;
    this.name = name;
    this.ended = ended;
  }

  /** Begins; `make` gives the session that the connection carries. */
  begin(make: (peer: Peer) => Session): void {
    const { socket } = this;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      this.received(chunk);
      stayAwake();
    });
    socket.on('drain', () => {
      if (!this.closing) socket.resume();
    });
    // The other side has said all: OVS's streams have no half-closed state.
    socket.on('end', () => this.destroy(null));
    socket.on('error', (error) => {
      this.failure ??= errorText(error);
    });
    socket.on('close', () => this.gone());
    this.guarded(() => {
      this.session = make(this);
    });
  }

  send(bytes: Uint8Array): void {
    const { socket } = this;
    if (this.closing || socket.destroyed || !socket.writable) return;
    socket.write(Buffer.from(bytes));
    if (socket.writableLength > QUEUE_BYTES) this.destroy('the peer does not take what it is sent');
    else if (socket.writableLength > PAUSE_BYTES) socket.pause();
  }
  get queued(): number {
    return this.socket.writableLength;
  }
  close(): void {
    if (this.closing) return;
    this.closing = true;
    // What still comes from it is nobody's.
    this.socket.removeAllListeners('data');
    this.socket.resume();
    this.socket.destroySoon();
  }
  /** Ends it at once; what was not sent is lost. */
  destroy(error: string | null): void {
    this.failure ??= error;
    this.closing = true;
    this.socket.destroy();
  }
  wakeIn(ms: number): void {
    const at = performance.now() + ms;
    if (this.ended === null || (this.wake !== null && this.wakeAt <= at)) return;
    if (this.wake !== null) clearTimeout(this.wake);
    this.wakeAt = at;
    // A timer may come a fraction of a millisecond early.
    const wait = Math.min(Math.ceil(ms) + (ms > 0 ? 1 : 0), MAX_TIMER_MS);
    this.wake = setTimeout(() => {
      this.wake = null;
      this.guarded(() => this.session?.tick?.(performance.now()));
    }, wait);
  }
  /** Once a second. */
  tick(nowMs: number): void {
    // A peer that takes nothing more shall not keep what it was sent last.
    if (this.closing && ++this.closingTicks > CLOSING_TICKS) this.socket.destroy();
    this.guarded(() => this.session?.tick?.(nowMs));
  }

  private received(chunk: Buffer): void {
    // A plain view: `slice` of a Buffer would not copy.
    const bytes = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
    this.guarded(() => this.session?.receive(bytes));
  }
  private gone(): void {
    const { ended } = this;
    if (ended === null) return;
    this.ended = null;
    if (this.wake !== null) clearTimeout(this.wake);
    this.closing = true;
    this.guarded(() => this.session?.closed(this.failure));
    this.session = null;
    ended();
  }
  private guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.destroy(errorText(error));
    }
  }
}
