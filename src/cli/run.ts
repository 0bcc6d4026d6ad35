/** `ringside run`: one run of a document on a thread of this machine, with assertions about what came of it. */
import { ThreadPool } from '../fleet/pool.ts';
import type { JobOutcome } from '../fleet/queue.ts';
import type { RunLimits } from '../lab/experiment/plan.ts';
import type { JobProblem, JobResult, JobRun, JobSpec } from '../lab/job/job.ts';
import { type Command, readArguments, usageError } from './arguments.ts';
import { CliError, EXIT } from './cli-error.ts';
import { type Expression, ExpressionError, parseExpression, type Scope } from './expression.ts';
import { writeText } from './files.ts';
import { type JunitCase, junitXml } from './junit.ts';
import { runJobOf } from './run-document.ts';
import { runText } from './run-text.ts';

export const RUN: Command = {
  name: 'run',
  usage: `Usage: ringside run DOCUMENT [options]

DOCUMENT: a YAML or JSON file with \`topology\` and \`traffic\` (or \`measure\`), or a topology; \`preset:NAME\`; - is standard input.

  --traffic FILE|TEXT   a traffic request, or a list of them, in place of the document's; may be given several times
  --assert EXPRESSION   what has to hold, as 'perFrame.exitsUserspace == 0'; may be given several times
  --junit FILE          write the assertions as JUnit XML
  --json                print the result as JSON
  --set POINTER=VALUE   set a field, as /topology/hosts/0/guests/*/nics/*/queueSize=1024; may be given several times
  --profile NAME|FILE   the cost profile
  --seed N              the seed of the run

Exit code: 0 all holds, 1 an assertion does not, 2 the command line or the document is wrong, 3 the run has failed.`,
  options: {
    traffic: { type: 'string', multiple: true },
    assert: { type: 'string', multiple: true },
    junit: { type: 'string' },
    json: { type: 'boolean' },
    set: { type: 'string', multiple: true },
    profile: { type: 'string' },
    seed: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
  operands: [1, 1],
};

/** Bytes; what a run may take is looked at apart. */
const HEAP = 2 ** 31;
const CANCELLED: JobProblem = { code: 'RINGSIDE_E_INTERNAL', detail: 'the run was cancelled' };

/** What became of an assertion. */
export interface Verdict {
  readonly expression: string;
  readonly outcome: 'holds' | 'fails' | 'unclear';
  /** Why not, with the values that its paths lead to. */
  readonly detail: string | null;
}

export async function run(args: readonly string[]): Promise<number> {
  const given = readArguments(RUN, args);
  const [path = ''] = given.operands;
  const expressions = given.texts('assert').map(expressionOf);
  const { job, limits } = runJobOf({
    path,
    traffic: given.texts('traffic'),
    set: given.texts('set'),
    seed: given.count('seed', 0, 0xffffffff),
    profile: given.text('profile'),
  });
  const began = performance.now();
  const outcome = await outcomeOf(job, limits);
  const seconds = (performance.now() - began) / 1000;
  const result = 'state' in outcome ? outcome : null;
  const problem = result === null ? (outcome as JobProblem) : result.problem;
  const verdicts = result?.state === 'SUCCEEDED' ? expressions.map((expression) => judged(expression, result)) : [];
  const junit = given.text('junit');
  if (junit !== undefined) {
    const facts = { engine: job.engine, seed: String(job.document.seed), profile: job.profile.name };
    const more = result === null ? {} : { costsHash: result.profile.hash, fingerprint: result.fingerprint };
    const cases = casesOf(problem, expressions, verdicts);
    const timestamp = new Date().toISOString();
    writeText(junit, junitXml({ name: path, seconds, timestamp, properties: { ...facts, ...more }, cases }));
  }
  if (result === null) throw new CliError(problemText(outcome as JobProblem), EXIT.FAILED);
  if (given.flag('json')) console.log(JSON.stringify({ result, assertions: verdicts }, null, 2));
  else console.log(runText(result, verdicts, seconds));
  if (result.state !== 'SUCCEEDED') return EXIT.FAILED;
  const unclear = verdicts.find(({ outcome }) => outcome === 'unclear');
  if (unclear !== undefined) throw new CliError(`--assert '${unclear.expression}': ${unclear.detail}`);
  return verdicts.every(({ outcome }) => outcome === 'holds') ? EXIT.OK : EXIT.ASSERTION;
}

function expressionOf(text: string): Expression {
  try {
    return parseExpression(text);
  } catch (error) {
    if (error instanceof ExpressionError) throw usageError(RUN, `--assert '${text}': ${error.message}`);
    throw error;
  }
}

/** What was stopped by a limit, or by a fault of ours, has no result but a problem. */
async function outcomeOf(job: JobSpec, limits: RunLimits): Promise<JobResult | JobProblem> {
  const ended = Promise.withResolvers<JobOutcome>();
  const pool = new ThreadPool(
    { started: () => {}, ended: (_key, outcome) => ended.resolve(outcome) },
    { threads: 1, heapBytes: HEAP },
  );
  pool.submit({ key: 'run', job, limits });
  try {
    const outcome = await ended.promise;
    if (outcome.kind === 'result') return outcome.result;
    return outcome.kind === 'failed' ? outcome.problem : CANCELLED;
  } finally {
    await pool.close();
  }
}
const problemText = ({ code, pointer = '', detail }: JobProblem): string => `${code} ${pointer}: ${detail}`;

/**
 * An expression that names fields of traffic runs has to hold for each of them; fields of the result itself, as `runs[0].sent` or
 * `events`, stand for themselves.
 */
export function judged(expression: Expression, result: JobResult): Verdict {
  const ofRuns = [...expression.names].some((name) => !Object.hasOwn(result, name));
  const scopes: [string, Scope][] =
    ofRuns && result.runs.length > 0
      ? result.runs.map((run) => [result.runs.length > 1 ? `${run.id}: ` : '', scopeOf(result, run)])
      : [['', scopeOf(result, null)]];
  const failed: string[] = [];
  for (const [which, scope] of scopes) {
    try {
      if (expression.evaluate(scope)) continue;
      const values = expression.values(scope).map(([path, value]) => `${path} is ${JSON.stringify(value)}`);
      failed.push(which + [...new Set(values)].join(', '));
    } catch (error) {
      if (!(error instanceof ExpressionError)) throw error;
      return { expression: expression.text, outcome: 'unclear', detail: which + error.message };
    }
  }
  if (failed.length === 0) return { expression: expression.text, outcome: 'holds', detail: null };
  return { expression: expression.text, outcome: 'fails', detail: failed.join('; ') };
}

function scopeOf(result: JobResult, run: JobRun | null): Scope {
  return (name) => {
    const of = run !== null && Object.hasOwn(run, name) ? run : result;
    return Object.hasOwn(of, name) ? (of as Record<string, unknown>)[name] : undefined;
  };
}
function casesOf(
  problem: JobProblem | null,
  expressions: readonly Expression[],
  verdicts: readonly Verdict[],
): JunitCase[] {
  return [
    { name: 'the run succeeds', failure: problem === null ? null : problemText(problem) },
    ...expressions.map(({ text }, i) => {
      const verdict = verdicts[i];
      if (verdict === undefined) return { name: text, failure: null, error: 'the run has failed' };
      const { outcome, detail } = verdict;
      return { name: text, failure: outcome === 'fails' ? detail : null, error: outcome === 'unclear' ? detail : null };
    }),
  ];
}
