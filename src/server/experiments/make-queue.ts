/** Where the runs of experiments are worked on: in threads of this machine, or by workers that a NATS server knows. */
import { ThreadPool } from '../../fleet/pool.ts';
import type { JobQueue, QueueListener } from '../../fleet/queue.ts';
import type { Settings } from '../settings.ts';

/** Called when there is a first run; what cannot be had is thrown. */
export function makeQueue(settings: Settings, listener: QueueListener): JobQueue | Promise<JobQueue> {
  const { natsUrl: url, natsFiles: files, natsPrefix: prefix, jobThreads: threads, jobHeap: heapBytes } = settings;
  if (url === null) return new ThreadPool(listener, { threads, heapBytes });
  // The client of NATS takes time and memory to load, which most servers need not spend.
  return import('../../fleet/nats.ts').then(({ NatsQueue }) => new NatsQueue(listener, { url, files, prefix }));
}
