/** A client of a live capture: reads a response as it comes, counts what arrived in whole blocks, and can stop reading. */
import assert from 'node:assert/strict';
import { get, type IncomingMessage } from 'node:http';
import { BlockWalk, PACKET_BLOCK, STATISTICS_BLOCK } from '../../src/readers/capture/pcapng-blocks.ts';

export class CaptureStream {
  readonly response: IncomingMessage;
  /** Settles when the answer has ended, or was cut off. */
  readonly ended: Promise<void>;
  private readonly parts: Buffer[] = [];
  private waiting: (() => void)[] = [];

  private constructor(response: IncomingMessage) {
    this.response = response;
    this.ended = new Promise((resolve) => {
      response.once('close', () => {
        resolve();
        this.wake();
      });
    });
    response.on('error', () => {});
  }

  /** Opens the stream; `read: false` leaves it unread. */
  static open(url: string, read = true): Promise<CaptureStream> {
    return new Promise((resolve, reject) => {
      get(url, (response) => {
        assert.equal(response.statusCode, 200);
        const stream = new CaptureStream(response);
        if (read) stream.resume();
        resolve(stream);
      }).on('error', reject);
    });
  }

  resume(): void {
    this.response.on('data', (chunk: Buffer) => {
      this.parts.push(chunk);
      this.wake();
    });
  }
  private wake(): void {
    const { waiting } = this;
    this.waiting = [];
    for (const go of waiting) go();
  }

  get bytes(): Buffer {
    return Buffer.concat(this.parts);
  }
  /** Blocks that have come, by type; fails where the stream has ended within one. */
  blocks(type: number): Buffer[] {
    const { bytes } = this;
    const walk = new BlockWalk(bytes);
    const out: Buffer[] = [];
    while (walk.step()) if (walk.type === type) out.push(bytes.subarray(walk.at, walk.end));
    if (this.response.closed) assert.equal(walk.end, bytes.length, 'the stream ended within a block');
    return out;
  }
  get packets(): number {
    return this.blocks(PACKET_BLOCK).length;
  }
  /** Sum of isb_ifdrop over the last statistics of each interface. */
  get dropped(): number {
    const last = new Map<number, number>();
    for (const block of this.blocks(STATISTICS_BLOCK)) {
      const walk = new BlockWalk(block);
      walk.step();
      last.set(block.readUInt32LE(8), walk.dropped());
    }
    return [...last.values()].reduce((sum, n) => sum + n, 0);
  }

  /** Waits until `ready`; looks whenever something has come. */
  async until(ready: () => boolean): Promise<void> {
    while (!ready()) {
      assert.ok(!this.response.closed, 'the stream ended before');
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
  }
  close(): void {
    this.response.destroy();
  }
}
