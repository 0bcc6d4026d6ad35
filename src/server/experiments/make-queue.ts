/** Where the runs of experiments are worked on: in threads of this machine, or by workers that a NATS server knows. */
import { ThreadPool } from '../../fleet/pool.ts';
import type { JobQueue, QueueListener } from '../../fleet/queue.ts';
import type { Settings } from '../settings.ts';

/** Called when there is a first run; what cannot be had is thrown. */
export function makeQueue(settings: Settings, listener: QueueListener): JobQueue | Promise<JobQueue> {
  if (settings.natsUrl !== null) throw new Error('RINGSIDE_NATS_URL: queues of NATS are not there yet');
  return new ThreadPool(listener, { threads: settings.jobThreads });
}
