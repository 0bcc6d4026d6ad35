/** Traffic runs of a topology: started within a limit, waited for without asking again and again. */
import type { FramesSpec, RunResult, TrafficSpec } from '../lab/protocol.ts';
import type { HostedTopology } from './hosted-topology.ts';
import { Problem } from './problem.ts';
import { pause } from './stopping.ts';
import type { World } from './world.ts';

type WithoutId<T> = T extends unknown ? Omit<T, 'id'> : never;

/** Starts a run under a new id. */
export async function startRun(
  hosted: HostedTopology,
  most: number,
  spec: WithoutId<TrafficSpec | FramesSpec>,
): Promise<RunResult> {
  const world = hosted.livingWorld();
  if (hosted.activeRuns.size >= most) {
    throw new Problem('RINGSIDE_E_TOO_MANY', `${most} runs are in progress in '${hosted.name}'`, {
      headers: { 'retry-after': '1' },
    });
  }
  const id = hosted.nextRunId();
  hosted.activeRuns.add(id);
  try {
    const started =
      'from' in spec
        ? await world.call('traffic', { spec: { ...spec, id } })
        : await world.call('frames', { spec: { ...spec, id } });
    if (ended(started)) hosted.activeRuns.delete(id);
    return started;
  } catch (error) {
    hosted.activeRuns.delete(id);
    throw error;
  }
}

/** The run when it has ended, or as it is when the time is up, the client is gone or the server stops. */
export async function waitForRun(
  world: World,
  run: string,
  waitMs: number,
  ...until: AbortSignal[]
): Promise<RunResult> {
  if (waitMs === 0) return await world.call('run', { run });
  const over = new AbortController();
  const onRun = (result: RunResult): void => {
    if (result.id === run) over.abort();
  };
  const onEnd = (): void => over.abort();
  // Listening starts before the first look, so that an end between the two is not missed.
  world.events.on('run', onRun);
  world.events.on('end', onEnd);
  try {
    const now = await world.call('run', { run });
    if (ended(now)) return now;
    await pause(waitMs, over.signal, ...until);
    return await world.call('run', { run });
  } finally {
    world.events.off('run', onRun);
    world.events.off('end', onEnd);
  }
}

function ended(run: RunResult): boolean {
  return run.state !== 'PENDING' && run.state !== 'RUNNING';
}
