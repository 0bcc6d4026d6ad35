/** Free buffers of a guest, by guest-physical address: a page pool or a DPDK mempool. */
export class BufferPool {
  declare private readonly gpas: Int32Array;
  declare private count: number;
  /** Bytes of a buffer. */
  declare readonly bytes: number;

  /** `count` buffers of `bytes` bytes from `gpa` on. */
  constructor(gpa: number, count: number, bytes: number) {
    this.gpas = Int32Array.from({ length: count }, (_, i) => gpa + (count - 1 - i) * bytes);
    this.count = count;
    this.bytes = bytes;
  }
  get empty(): boolean {
    return this.count === 0;
  }
  get size(): number {
    return this.count;
  }
  /** The buffers that are free, in the order in which they were given back. */
  get free(): Int32Array {
    return this.gpas.slice(0, this.count);
  }
  set free(gpas: Int32Array) {
    this.gpas.set(gpas);
    this.count = gpas.length;
  }
  take(): number {
    return this.gpas[--this.count]!;
  }
  give(gpa: number): void {
    this.gpas[this.count++] = gpa;
  }
}
