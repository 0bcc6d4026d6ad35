/** The receiving end of iperf: reads what has come, as much as its buffer holds, and throws it away. */
import type { Services } from '../../services.ts';
import { Application } from './application.ts';

/** iperf3 src/iperf.h DEFAULT_TCP_BLKSIZE: bytes of one read(). */
const READ_BYTES = 131_072;

export class StreamReader extends Application {
  readonly unitBytes = 1;
  protected readonly unitsPerRead = READ_BYTES;
  declare private readonly taken: (bytes: number) => void;

  /** `taken`: the socket's buffer has so much more room. */
  constructor(services: Services, taken: (bytes: number) => void) {
    super(services);
    this.taken = taken;
  }
  override opened(): void {}
  protected override read(units: number): void {
    this.taken(units);
  }
  protected override rang(): void {}
}
