/**
 * A thread that writes one capture, as the API thread sees it: started with a job, asked to stop by a word in shared
 * memory, heard from by messages. However the thread ends, the hold that it read with is released.
 */
import { Worker } from 'node:worker_threads';
import type { Hold } from '../../engine/hold.ts';
import { type CaptureJob, type CaptureProgress, STOP_REASONS, type StopReason } from './capture-job.ts';

const ENTRY = new URL('./recording.worker.ts', import.meta.url);

export class CaptureWriter {
  /** Settles when the thread is gone. */
  readonly ended: Promise<void>;
  private readonly worker: Worker;
  private readonly stopWord: Int32Array;

  /** `onProgress` is called while it runs; `onEnd` once, with why it ended where it did not say so itself. */
  constructor(
    job: CaptureJob,
    hold: Hold | null,
    onProgress: (progress: CaptureProgress) => void,
    onEnd: (failure: string | null) => void,
  ) {
    this.stopWord = job.stopWord;
    this.worker = new Worker(ENTRY, { workerData: job });
    let failure: string | null = 'the thread that writes it ended';
    this.worker.on('message', (progress: CaptureProgress) => {
      if (progress.end !== null) failure = null;
      onProgress(progress);
    });
    this.worker.on('error', (error: unknown) => {
      failure = error instanceof Error ? error.message : String(error);
    });
    this.ended = new Promise((resolve) => {
      this.worker.on('exit', () => {
        hold?.release();
        onEnd(failure);
        resolve();
      });
    });
  }

  /** Asks it to write what has been recorded until now, and to end. The first reason counts. */
  stop(reason: StopReason): void {
    Atomics.compareExchange(this.stopWord, 0, 0, STOP_REASONS.indexOf(reason));
    Atomics.notify(this.stopWord, 0);
  }

  /** Ends the thread where it is, as a crash would. */
  async kill(): Promise<void> {
    await this.worker.terminate();
  }
}
