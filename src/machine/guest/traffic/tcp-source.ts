/**
 * A TCP socket as its vCPU sees it: it sends when the connection has something to send, or one of its timers runs out.
 * The application behind it writes as much as the socket takes; what arrives is read by an application.ts, or at once where
 * there is none.
 */
import { NEVER } from '../../../engine/timeline.ts';
import { TCP_CLOSE, TCP_CLOSE_WAIT, TCP_ESTABLISHED, type TcpBlock } from '../stack/tcp-block.ts';
import { TcpOutput } from '../stack/tcp-output.ts';
import type { Application, MessageSocket, SocketPlace } from './application.ts';
import { TrafficSource } from './source.ts';
import { StreamReader } from './stream-reader.ts';

export class TcpSource extends TrafficSource implements MessageSocket, SocketPlace {
  declare readonly block: TcpBlock;
  declare readonly output: TcpOutput;
  /** When the application stops writing and closes; NEVER where it sends a number of bytes. */
  private until = NEVER;
  private released = false;
  private application: Application | null = null;
  private opened = false;
  /** Messages, or bytes, that the application has been told of. */
  private told = 0;

  /** `cost`: ns of a segment on its way through the stack, without bytes. */
  constructor(block: TcpBlock, cost: number) {
    super(block.nic, 1, cost, false, block.pair);
    this.block = block;
    this.output = new TcpOutput(block);
  }

  /** The application writes `bytes`, then closes. */
  writeBytes(bytes: number): void {
    this.block.limit = 1 + bytes;
    this.block.close();
  }
  /** The application writes without end until virtual time `until`, then closes. */
  writeUntil(until: number): void {
    this.block.limit = Number.POSITIVE_INFINITY;
    this.until = until;
  }
  /** What arrives is read by `application`, from the moment when the connection is open. */
  serve(application: Application): void {
    this.application = application;
  }
  /** An application that reads a stream: what it has not read fills the socket's buffer. */
  readStream(): void {
    const { block } = this;
    block.reading = false;
    this.application = new StreamReader(block.services, (bytes) => {
      block.read += bytes;
      this.output.windowUpdate();
    });
  }
  send(bytes: number): void {
    this.block.limit += bytes;
  }
  readTag(): number {
    return -1;
  }
  finish(): void {
    this.block.close();
  }
  private tell(application: Application, clock: Float64Array): void {
    const { block } = this;
    const now = clock[0]!;
    if (!this.opened && (block.state === TCP_ESTABLISHED || block.state === TCP_CLOSE_WAIT)) {
      this.opened = true;
      application.opened(now);
    }
    const whole = Math.floor(block.received / application.unitBytes);
    if (whole > this.told) application.arrived(whole - this.told);
    this.told = whole;
    this.work = application.work(now);
  }

  /** The application stops or goes on reading. */
  setReading(reading: boolean, clock: Float64Array): void {
    const b = this.block;
    b.reading = reading;
    if (reading) {
      b.read = Math.max(1, b.rcvNxt);
      this.output.windowUpdate();
    }
    this.refresh(clock);
  }

  /** Something has changed at clock[0]: when is the next look due? */
  refresh(clock: Float64Array): void {
    const { block, output } = this;
    if (this.released || block.state === TCP_CLOSE) {
      this.due[0] = NEVER;
      this.work = -1;
      return;
    }
    if (this.application !== null) this.tell(this.application, clock);
    if (this.work >= 0 || output.pending) this.due[0] = clock[0]!;
    else {
      output.persist(clock);
      this.due[0] = Math.min(block.nextTimer, this.until);
      if (this.application !== null) this.due[0] = Math.min(this.due[0]!, this.application.nextAlarm);
    }
  }
  get base(): number {
    return this.nic.pairs[this.pair]!.base;
  }
  get localPort(): number {
    return this.block.localPort;
  }
  override begin(polls: boolean): void {
    this.application!.begin(this, polls);
  }
  override worked(clock: Float64Array): void {
    this.application!.worked(this, clock[0]!);
    this.refresh(clock);
  }

  override ready(clock: Float64Array): number {
    const now = clock[0]!;
    if (this.due[0]! > now || this.done) return 0;
    if (this.until <= now) {
      this.until = NEVER;
      this.block.limit = Math.max(1, this.block.nxt);
      this.block.close();
    }
    this.output.runTimers(clock);
    this.refresh(clock);
    return this.work < 0 && this.due[0]! <= now ? 1 : 0;
  }
  override nextLength(): number {
    return this.output.nextLength();
  }
  override fill(at: number): number {
    const clock = this.block.services.recorder.stamp;
    const length = this.output.write(at, this.wish, clock);
    this.refresh(clock);
    return length;
  }
  override get done(): boolean {
    return this.released || this.block.state === TCP_CLOSE;
  }
  /** Nothing more is sent, and the connection is not told. */
  override cancel(): void {
    this.released = true;
    this.work = -1;
    this.due[0] = NEVER;
  }
}
