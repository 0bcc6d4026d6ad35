/** `ringside experiment merge`: parts that were computed apart, as one. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Schedule } from '../lab/experiment/schedule.ts';
import { type Command, readArguments } from './arguments.ts';
import { CliError, EXIT } from './cli-error.ts';
import { fileName, headerOf, planned } from './experiment-plan.ts';
import { countsText, reportOf, writeReport } from './experiment-report.ts';
import { makeFolder } from './files.ts';
import { type EndedRun, endInSchedule, writeOrdered } from './local-runs.ts';
import { RunFile } from './run-file.ts';

export const EXPERIMENT_MERGE: Command = {
  name: 'experiment merge',
  usage: `Usage: ringside experiment merge FOLDER… [--out FOLDER]

Puts the parts of an experiment (runs-i-of-n.ndjson in the folders) together, as if they had been computed in one: each run exactly
once, found by its number and compared by its hash.

  --out FOLDER   where results go (default: ./results)

Exit code: 0 all runs are there and succeeded, 2 the parts do not belong together, 3 runs are missing, failed or differ.`,
  options: { out: { type: 'string', short: 'o' }, help: { type: 'boolean', short: 'h' } },
  operands: [1, 10_000],
};
/** What one experiment's plan may have when it is only read. */
const ANY_RUNS = 100_000_000;
const TOLD = 10;

export async function experimentMerge(args: readonly string[]): Promise<number> {
  const given = readArguments(EXPERIMENT_MERGE, args);
  const files = given.operands.flatMap(partsIn).map((path) => RunFile.read(path));
  const [first] = files;
  if (first === undefined) throw new CliError(`there is no runs-i-of-n.ndjson in ${given.operands.join(', ')}`);
  const { template, profiles, engine } = first.header;
  for (const file of files) checkSame(first, file);
  const experiment = planned(first.path, template, profiles, { engine, maxRuns: ANY_RUNS });
  const { plan } = experiment;
  const found = runsOf(files);

  const schedule = new Schedule(plan);
  const missing: number[] = [];
  for (let number = schedule.next(); number !== null; number = schedule.next()) {
    const ended = found.get(number);
    if (ended !== undefined) endInSchedule(plan, schedule, number, ended);
    else {
      missing.push(number);
      schedule.ended(number, 'CANCELLED', null);
    }
  }
  if (missing.length > 0) throw new CliError(missingText(files, missing), EXIT.FAILED);
  const folder = given.text('out') ?? 'results';
  makeFolder(folder);
  const whole = { index: 0, count: 1 };
  const merged = writeOrdered(join(folder, fileName(whole)), headerOf(experiment, whole), plan, schedule, found);
  const report = reportOf(plan, schedule, merged, experiment.hash);
  writeReport(folder, report);
  console.log(`${countsText(schedule)}\n\n${report.text}\n\n${files.length} parts are one in ${folder}`);
  for (const file of [...files, merged]) file.close();
  return schedule.count('FAILED') === 0 ? EXIT.OK : EXIT.FAILED;
}

function partsIn(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
    const names = readdirSync(path).filter((name) => /^runs-\d+-of-\d+\.ndjson$/.test(name));
    return names.sort().map((name) => join(path, name));
  } catch (error) {
    throw new CliError(`${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function checkSame(first: RunFile, { path, header }: RunFile): void {
  if (header.engine !== first.header.engine)
    throw new CliError(
      `${path} was computed by ${header.engine}, ${first.path} by ${first.header.engine}: results of two versions do not mix`,
    );
  if (header.experiment !== first.header.experiment)
    throw new CliError(`${path} is of another experiment than ${first.path}`);
  if (header.shard.count !== first.header.shard.count)
    throw new CliError(`${path} is a part of ${header.shard.count}, ${first.path} of ${first.header.shard.count}`);
}

/** By number; what is there twice has to be the same. */
function runsOf(files: readonly RunFile[]): Map<number, EndedRun> {
  const found = new Map<number, EndedRun>();
  for (const file of files) {
    for (const place of file.places) {
      const other = found.get(place.run);
      if (
        other !== undefined &&
        other.place.digest !== null &&
        place.digest !== null &&
        other.place.digest !== place.digest
      )
        throw new CliError(
          `run ${place.run} has two results: ${other.place.digest} in ${other.file.path}, ${place.digest} in ${file.path}`,
          EXIT.FAILED,
        );
      // A machine that had too little time or memory has no say where another one had enough.
      if (other === undefined || other.place.digest === null) found.set(place.run, { file, place });
    }
  }
  return found;
}

function missingText(files: readonly RunFile[], missing: readonly number[]): string {
  const { count } = files[0]!.header.shard;
  const there = new Set(files.map(({ header }) => header.shard.index));
  const parts = Array.from({ length: count }, (_, i) => i).filter((i) => !there.has(i));
  const told = missing.slice(0, TOLD).join(', ') + (missing.length > TOLD ? ' …' : '');
  const why =
    parts.length === 0
      ? ''
      : `; without ${parts.length === 1 ? 'part' : 'parts'} ${parts.slice(0, TOLD).join(', ')} of ${count}`;
  return `${missing.length} ${missing.length === 1 ? 'run is' : 'runs are'} missing: ${told}${why}`;
}
