/**
 * Entry of the thread that writes one capture to disk: a loop around a Recording. It never returns to its event loop: it
 * reads shared memory, writes files, and sleeps on the stop word where the ring has nothing new.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { CaptureJob } from './capture-job.ts';
import { Recording } from './recording.ts';

/** Wall time between two looks at a quiet ring, and between two reports, ms. */
const POLL_MS = 5;
const REPORT_MS = 100;

const port = parentPort;
if (port === null) throw new Error('this file is the entry of a worker thread');
// The pool that starts this thread sends nothing else.
const job = workerData as CaptureJob;
const recording = new Recording(job);
let reported = 0;
let told = '';

/** Tells how it stands, where that has changed. */
function report(): void {
  reported = performance.now();
  const { progress } = recording;
  const text = JSON.stringify(progress);
  if (text === told) return;
  told = text;
  port?.postMessage(progress);
}

try {
  for (let result = recording.step(); result !== 'ended'; result = recording.step()) {
    if (performance.now() - reported >= REPORT_MS) report();
    if (result === 'quiet') Atomics.wait(job.stopWord, 0, 0, POLL_MS);
  }
} catch (error) {
  recording.fail(error);
}
report();
