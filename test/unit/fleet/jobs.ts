/** Jobs for tests of queues, and a listener that keeps what it was told. */
import type { JobOutcome, QueuedJob, QueueListener } from '../../../src/fleet/queue.ts';
import { contentHash, type JobSpec, type JobTraffic } from '../../../src/lab/job/job.ts';

const MIB = 2 ** 20;

/** Two guests of 16 MiB at a kernel bridge; `flows` of OpenFlow there. */
export function jobOf(seed: number, changes: Partial<JobSpec> = {}, flows: readonly string[] = []): JobSpec {
  const guest = (name: string, address: string) => ({
    name,
    nics: [{ name: 'net0', bridge: 'br0', addresses: [address] }],
  });
  return {
    engine: 'test',
    document: {
      seed,
      hosts: [
        {
          name: 'h1',
          bridges: [{ name: 'br0', datapath: 'system', flows: [...flows] }],
          guests: [guest('a', '10.0.0.1/24'), guest('b', '10.0.0.2/24')],
        },
      ],
    },
    profile: { name: 'test', costs: {} },
    traffic: [udp({ count: 50 })],
    maxEvents: 1e9,
    ...changes,
  };
}
export function udp(changes: Partial<JobTraffic> = {}): JobTraffic {
  return { kind: 'udp', from: 'a/net0', to: 'b/net0', ...changes };
}
/** A job that fills the heap: 65,536 connections are tracked, about 75 MiB. */
export const greedyJob = (seed: number): JobSpec =>
  jobOf(seed, { traffic: [udp({ flows: 65_536, count: 65_536 })] }, ['udp,actions=ct(commit,table=1)']);

export function queued(job: JobSpec, limits: Partial<QueuedJob['limits']> = {}): QueuedJob {
  return { key: contentHash(job), job, limits: { memory: 512 * MIB, wallSeconds: 60, ...limits } };
}

/** What a queue has told, and promises of what it will. */
export class Told implements QueueListener {
  readonly begun: string[] = [];
  readonly outcomes = new Map<string, JobOutcome[]>();
  private readonly waiting: { readonly met: () => boolean; readonly resolve: () => void }[] = [];

  started(key: string): void {
    this.begun.push(key);
    this.look();
  }
  ended(key: string, outcome: JobOutcome): void {
    this.outcomes.set(key, [...(this.outcomes.get(key) ?? []), outcome]);
    this.look();
  }

  /** The outcome of a job; fails where it had several. */
  async outcome({ key }: QueuedJob): Promise<JobOutcome> {
    await this.until(() => this.outcomes.has(key));
    return this.outcomes.get(key)![0]!;
  }
  hasBegun({ key }: QueuedJob): Promise<void> {
    return this.until(() => this.begun.includes(key));
  }
  until(met: () => boolean): Promise<void> {
    if (met()) return Promise.resolve();
    return new Promise((resolve) => {
      this.waiting.push({ met, resolve });
    });
  }
  private look(): void {
    for (const { met, resolve } of this.waiting) if (met()) resolve();
  }
}
