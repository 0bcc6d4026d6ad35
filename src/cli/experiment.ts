/** `ringside experiment`: its commands. */
import { closeMatches } from '../lab/document-faults.ts';
import { CliError } from './cli-error.ts';
import { EXPERIMENT_MERGE, experimentMerge } from './experiment-merge.ts';
import { EXPERIMENT_RUN, experimentRun } from './experiment-run.ts';
import { EXPERIMENT_RESULTS, EXPERIMENT_STATUS, experimentResults, experimentStatus } from './experiment-server.ts';

const COMMANDS = {
  run: experimentRun,
  merge: experimentMerge,
  status: experimentStatus,
  results: experimentResults,
} as const;

export const EXPERIMENT_USAGE = [EXPERIMENT_RUN, EXPERIMENT_MERGE, EXPERIMENT_STATUS, EXPERIMENT_RESULTS]
  .map(({ usage }) => usage)
  .join('\n\n');

export async function experiment(args: readonly string[]): Promise<number> {
  const [name = '', ...rest] = args;
  if (Object.hasOwn(COMMANDS, name)) return COMMANDS[name as keyof typeof COMMANDS](rest);
  const near = closeMatches(name, Object.keys(COMMANDS));
  const meant = near.length > 0 ? `; is it ${near.join(' or ')}?` : '';
  const what = name === '' ? 'something is missing' : `there is no 'experiment ${name}'${meant}`;
  throw new CliError(`ringside experiment: ${what}\n\n${EXPERIMENT_USAGE}`);
}
