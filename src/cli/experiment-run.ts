/** `ringside experiment run`: on the threads of this machine, whole or a part of it, or on a server. */
import { existsSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { engineVersion } from '../lab/job/engine-version.ts';
import { type Command, readArguments, usageError } from './arguments.ts';
import { CliError, EXIT } from './cli-error.ts';
import { fileName, headerOf, planned, readProfiles, readShard, skippedText } from './experiment-plan.ts';
import { countsText, reportOf, writeReport } from './experiment-report.ts';
import { runOnServer } from './experiment-server.ts';
import { makeFolder, readDocument } from './files.ts';
import { type EndedRun, LocalRuns, writeOrdered } from './local-runs.ts';
import { RunFile } from './run-file.ts';

export const EXPERIMENT_RUN: Command = {
  name: 'experiment run',
  usage: `Usage: ringside experiment run FILE [options]

Runs all combinations of an experiment (YAML or JSON) on the threads of this machine; no service is needed.

  --out FOLDER      where results go: runs-0-of-1.ndjson, results.csv, summary.json (default: ./results)
  --shard i/n       only part i of n, i from 0; \`--shard n\` takes i from JOB_COMPLETION_INDEX
  --threads N       runs at a time (default: one for each processor)
  --profile FILE    a cost profile that documents may name; may be given several times, bases first
  --max-runs N      most runs of an experiment (default: 100000)
  --server URL      run it on a server instead, and wait for its end; RINGSIDE_TOKEN is shown to it
  --no-wait         with --server: print the id and end

The same command goes on where it was stopped: results in FOLDER are not computed again.
Exit code: 0 all runs succeeded, 2 the command line or the document is wrong, 3 a run failed.`,
  options: {
    out: { type: 'string', short: 'o' },
    shard: { type: 'string' },
    threads: { type: 'string' },
    profile: { type: 'string', multiple: true },
    'max-runs': { type: 'string' },
    server: { type: 'string' },
    'no-wait': { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
  operands: [1, 1],
};
const LOCAL_ONLY = ['out', 'shard', 'threads', 'max-runs'] as const;
const MOST_RUNS = 100_000;
/** Between two lines of progress, ms. */
const PROGRESS_MS = 10_000;

export async function experimentRun(args: readonly string[]): Promise<number> {
  const given = readArguments(EXPERIMENT_RUN, args);
  const [path = ''] = given.operands;
  const server = given.text('server');
  if (server !== undefined) {
    const foreign = LOCAL_ONLY.find((option) => given.text(option) !== undefined);
    if (foreign !== undefined || given.texts('profile').length > 0)
      throw usageError(EXPERIMENT_RUN, `--${foreign ?? 'profile'} does not go with --server`);
    return runOnServer(server, readDocument(path), !given.flag('no-wait'));
  }
  if (given.flag('no-wait')) throw usageError(EXPERIMENT_RUN, '--no-wait goes with --server');
  const shard = readShard(given.text('shard'), process.env);
  const threads = given.count('threads', 1, 1024) ?? availableParallelism();
  const maxRuns = given.count('max-runs', 1, 100_000_000) ?? MOST_RUNS;
  const experiment = planned(path, readDocument(path), readProfiles(given.texts('profile')), {
    engine: engineVersion(),
    maxRuns,
  });
  const { plan, hash } = experiment;
  for (const line of skippedText(plan)) console.error(line);
  const header = headerOf(experiment, shard);
  const folder = given.text('out') ?? 'results';
  makeFolder(folder);
  const final = join(folder, fileName(shard));
  const partial = `${final}.partial`;

  const known = new Map<string, EndedRun>();
  const file = RunFile.continue(partial, header);
  const before = existsSync(final) ? RunFile.continue(final, header) : null;
  for (const one of before === null ? [file] : [before, file])
    for (const place of one.places) if (place.digest !== null) known.set(place.key, { file: one, place });

  const runs = new LocalRuns(plan, file, known, threads);
  await withProgress(runs, final);
  const ordered = writeOrdered(final, header, plan, runs.schedule, runs.ended);
  before?.close();
  file.close();
  rmSync(partial);
  const reused = runs.reused === 0 ? '' : `, ${runs.reused} of them were there`;
  if (shard.count === 1) {
    const report = reportOf(plan, runs.schedule, ordered, hash);
    writeReport(folder, report);
    console.log(
      `${countsText(runs.schedule)}${reused}\n\n${report.text}\n\n${final}, results.csv and summary.json are written`,
    );
  } else
    console.log(`part ${shard.index} of ${shard.count}: ${countsText(runs.schedule)}${reused}\n${final} is written`);
  ordered.close();
  return runs.schedule.count('FAILED') === 0 ? EXIT.OK : EXIT.FAILED;
}

/**
 * Until it is over; a signal ends it, and what has ended by then stays. Ctrl-C comes twice where ringside.cjs hands it on beside the
 * terminal: only the first one counts.
 */
async function withProgress(runs: LocalRuns, path: string): Promise<void> {
  const timer = setInterval(() => console.error(progressText(runs)), PROGRESS_MS);
  timer.unref();
  const stopped = Promise.withResolvers<never>();
  let stopping = false;
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) return;
    stopping = true;
    const code = signal === 'SIGINT' ? 130 : 143;
    void runs
      .stop()
      .then(() =>
        stopped.reject(new CliError(`stopped; what has ended stays beside ${path}: the same command goes on`, code)),
      );
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  try {
    await Promise.race([runs.run(), stopped.promise]);
  } finally {
    clearInterval(timer);
    process.removeListener('SIGINT', stop).removeListener('SIGTERM', stop);
  }
}
function progressText({ schedule }: LocalRuns): string {
  const left = schedule.count('PENDING') + schedule.count('RUNNING');
  return `${countsText(schedule)}, ${left} left`;
}
