/** A queue that runs its jobs on this thread, one for each turn of the event loop: for tests of what stands before a queue. */
import type { JobQueue, QueuedJob, QueueListener } from '../../src/fleet/queue.ts';
import { contentHash } from '../../src/lab/job/job.ts';
import { runJob } from '../../src/lab/job/run-job.ts';

export class InlineQueue implements JobQueue {
  readonly parallel = 2;
  /** Keys of all jobs that were run, in order. */
  readonly ran: string[] = [];
  /** While it is true nothing is begun. */
  held = false;
  private readonly listener: QueueListener;
  private readonly waiting = new Map<string, QueuedJob>();
  private scheduled = false;
  private closed = false;

  constructor(listener: QueueListener) {
    this.listener = listener;
  }
  get size(): number {
    return this.waiting.size;
  }
  submit(job: QueuedJob): void {
    this.waiting.set(job.key, job);
    this.schedule();
  }
  cancel(keys: Iterable<string>): void {
    for (const key of keys) if (this.waiting.delete(key)) this.listener.ended(key, { kind: 'cancelled' });
  }
  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
  release(): void {
    this.held = false;
    this.schedule();
  }
  private schedule(): void {
    if (this.scheduled || this.held || this.closed) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.step();
    });
  }
  private step(): void {
    const [queued] = this.waiting.values();
    if (queued === undefined || this.held || this.closed) return;
    const { key, job } = queued;
    this.ran.push(key);
    this.listener.started(key);
    const result = runJob(job);
    this.waiting.delete(key);
    this.listener.ended(key, { kind: 'result', result, digest: contentHash(result), wallSeconds: 0.001 });
    this.schedule();
  }
}
