/**
 * Long answers in small steps: a reader's generator does a few milliseconds of work per chunk, and between two chunks the
 * event loop serves everybody else. A stream ends between chunks, so a reader's last block or line is always whole.
 */
import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { Problem } from './problem.ts';
import type { Stopping } from './stopping.ts';
import { turn } from './turns.ts';

/** How many streams may be open at a time. */
export class StreamSlots {
  private readonly most: number;
  private open = 0;
  constructor(most: number) {
    this.most = most;
  }
  get used(): number {
    return this.open;
  }
  /** Takes a slot until the returned function is called. */
  take(): () => void {
    if (this.open >= this.most) {
      throw new Problem('RINGSIDE_E_TOO_MANY', `At most ${this.most} streams and downloads may be open`, {
        headers: { 'retry-after': '5' },
      });
    }
    this.open++;
    let held = true;
    return () => {
      if (held) this.open--;
      held = false;
    };
  }
  /** Takes a slot for as long as the response lasts. */
  takeFor(reply: FastifyReply): void {
    reply.raw.once('close', this.take());
  }
}

/** A response body from a generator; `AsyncGenerator`s may wait between their chunks. */
export function streamOf(chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>, stopping: Stopping): Readable {
  async function* steps(): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      if (chunk.length > 0) yield chunk;
      if (stopping.begun) return;
      await turn();
    }
  }
  return Readable.from(steps(), { objectMode: false, highWaterMark: 64 * 1024 });
}

/** Runs a generator to its result, one step per turn of the event loop. */
export async function inTurns<T>(work: Generator<unknown, T>): Promise<T> {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
    await turn();
  }
}

/** Sends a stream; the header goes out at once, even where the first chunk is far away. */
export function sendStream(reply: FastifyReply, stream: Readable): FastifyReply {
  reply.header('cache-control', 'no-store').header('x-accel-buffering', 'no').send(stream);
  setImmediate(() => {
    if (!reply.raw.headersSent && !reply.raw.destroyed) reply.raw.flushHeaders();
  });
  return reply;
}
