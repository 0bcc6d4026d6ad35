/** `ringside worker`: one machine's share of a NATS queue of jobs. */
import type { Command } from './arguments.ts';
import { intoEnvironment } from './serve.ts';

export const WORKER: Command = {
  name: 'worker',
  usage: `Usage: ringside worker [options]

Works on the jobs of a NATS server, as many at a time as it has threads, until it is ended. \`npm run worker\` is the same.

  --nats URL     the NATS server (RINGSIDE_NATS_URL)
  --threads N    jobs at a time (RINGSIDE_JOB_THREADS)
  --prefix NAME  what the names of streams and buckets begin with (RINGSIDE_NATS_PREFIX)`,
  options: {
    nats: { type: 'string' },
    threads: { type: 'string' },
    prefix: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
  operands: [0, 0],
};
const VARIABLES = {
  nats: 'RINGSIDE_NATS_URL',
  threads: 'RINGSIDE_JOB_THREADS',
  prefix: 'RINGSIDE_NATS_PREFIX',
} as const;

export async function worker(args: readonly string[]): Promise<null> {
  intoEnvironment(WORKER, VARIABLES, args);
  await import('../fleet/worker-main.ts');
  return null;
}
