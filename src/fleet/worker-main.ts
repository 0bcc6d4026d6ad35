/**
 * A machine's share of the jobs of a NATS server, until it is ended: `npm run worker`. What it needs to know is in the environment
 * (docs/scale-out.md).
 */
import { availableParallelism } from 'node:os';
import { parseSize } from '../lab/units.ts';
import { BadNatsUrl, type NatsAddress, natsAddress } from './nats-address.ts';
import { readNatsFiles } from './nats-files.ts';
import { NatsWorker, type NatsWorkerOptions } from './nats-worker.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Settings of a worker, or what is wrong with each. */
function readOptions(env: Environment): NatsWorkerOptions | readonly string[] {
  const faults: string[] = [];
  const present = (name: string): string | undefined => {
    const value = env[name]?.trim();
    return value === '' ? undefined : value;
  };
  const count = (name: string, fallback: number, min: number, max: number): number => {
    const value = present(name) ?? String(fallback);
    const n = /^\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
    if (n >= min && n <= max) return n;
    faults.push(`${name} is '${value}': expected a whole number from ${min} to ${max}`);
    return fallback;
  };
  const heap = parseSize(present('RINGSIDE_JOB_HEAP') ?? '1GiB');
  if (!heap.ok) faults.push(`RINGSIDE_JOB_HEAP: ${heap.detail}; expected ${heap.expected}`);
  const url = present('RINGSIDE_NATS_URL');
  let address: NatsAddress | null = null;
  if (url === undefined) faults.push('RINGSIDE_NATS_URL is not set: expected the address of the NATS server');
  else {
    try {
      address = natsAddress(url);
    } catch (error) {
      if (!(error instanceof BadNatsUrl)) throw error;
      faults.push(`RINGSIDE_NATS_URL: ${error.message}`);
    }
  }
  const { files, faults: wrongFiles } = readNatsFiles(env, address);
  faults.push(...wrongFiles);
  const prefix = present('RINGSIDE_NATS_PREFIX') ?? 'ringside';
  if (!/^[A-Za-z0-9_-]{1,32}$/.test(prefix))
    faults.push(`RINGSIDE_NATS_PREFIX is '${prefix}': expected 1 to 32 letters, digits, - and _`);
  const options = {
    url: url ?? '',
    files,
    prefix,
    threads: count('RINGSIDE_JOB_THREADS', availableParallelism(), 1, 1024),
    ...(heap.ok ? { heapBytes: heap.value } : {}),
    ackWaitMs: 1000 * count('RINGSIDE_NATS_ACK_WAIT', 60, 1, 86_400),
    maxDeliver: count('RINGSIDE_NATS_MAX_DELIVER', 5, 1, 1000),
  };
  return faults.length > 0 ? faults : options;
}

const options = readOptions(process.env);
if ('url' in options) {
  const worker = new NatsWorker(options);
  console.log(`worker ${worker.id}: ${options.threads} threads, engine ${worker.engine}`);
  let endedAt = Number.POSITIVE_INFINITY;
  const end = (): void => {
    // Ctrl-C comes twice where ringside.cjs hands it on beside the terminal
    if (performance.now() - endedAt > 1000) process.exit(1);
    if (endedAt !== Number.POSITIVE_INFINITY) return;
    endedAt = performance.now();
    worker.stop().then(
      () => {
        console.log(`worker ${worker.id} has ended after ${worker.ended} jobs`);
        process.exit(0);
      },
      (error: unknown) => {
        console.error(error);
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
} else {
  console.error(options.join('\n'));
  process.exit(2);
}
