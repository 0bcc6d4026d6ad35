/** Experiments on a server: started, followed and read over its API. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, readArguments } from './arguments.ts';
import { CliError, EXIT } from './cli-error.ts';

const SERVER = '  --server URL   the server, as http://127.0.0.1:8080 (RINGSIDE_URL); RINGSIDE_TOKEN is shown to it';
const HELP = { help: { type: 'boolean', short: 'h' }, server: { type: 'string' } } as const;

export const EXPERIMENT_STATUS: Command = {
  name: 'experiment status',
  usage: `Usage: ringside experiment status [ID] [--server URL] [--json]

Shows how far an experiment of a server is; without an id, all of them.

${SERVER}
  --json         print what the server answers`,
  options: { ...HELP, json: { type: 'boolean' } },
  operands: [0, 1],
};
export const EXPERIMENT_RESULTS: Command = {
  name: 'experiment results',
  usage: `Usage: ringside experiment results ID [--server URL] [--csv | --summary]

Prints the runs that have ended, one line of JSON each, as CSV, or the summary by axis as JSON.

${SERVER}
  --csv          as CSV
  --summary      means by axis and by combination, with confidence intervals`,
  options: { ...HELP, csv: { type: 'boolean' }, summary: { type: 'boolean' } },
  operands: [1, 1],
};

interface ExperimentView {
  readonly id: string;
  readonly name: string;
  readonly state: 'RUNNING' | 'SUCCEEDED' | 'FAILED' | 'CANCELLED';
  readonly reason: string | null;
  readonly runs: Readonly<Record<string, number>>;
  readonly progress: number;
  readonly etaSeconds: number | null;
}
interface ProblemView {
  readonly code?: string;
  readonly detail?: string;
  readonly errors?: readonly { readonly pointer: string; readonly detail: string; readonly expected?: string }[];
}

/** How long a look at the server may wait for the end of an experiment, s. */
const WAIT_SECONDS = 30;
/** While the server is restarted. */
const RETRIES = 20;
const RETRY_MS = 1500;

export async function experimentStatus(args: readonly string[]): Promise<number> {
  const given = readArguments(EXPERIMENT_STATUS, args);
  const server = serverOf(given.text('server'));
  const [id] = given.operands;
  const path = id === undefined ? '/v1/experiments' : `/v1/experiments/${encodeURIComponent(id)}`;
  const answer = await json<ExperimentView & { readonly items: readonly ExperimentView[] }>(server, path);
  const all = id === undefined ? answer.items : [answer];
  if (given.flag('json')) console.log(JSON.stringify(answer, null, 2));
  else if (all.length === 0) console.log('there are no experiments');
  else for (const one of all) console.log(viewText(one));
  return id !== undefined && answer.state !== 'RUNNING' && answer.state !== 'SUCCEEDED' ? EXIT.FAILED : EXIT.OK;
}

export async function experimentResults(args: readonly string[]): Promise<number> {
  const given = readArguments(EXPERIMENT_RESULTS, args);
  const server = serverOf(given.text('server'));
  const [id = ''] = given.operands;
  const base = `/v1/experiments/${encodeURIComponent(id)}`;
  const [path, accept] = given.flag('csv')
    ? [`${base}/results.csv`, 'text/csv']
    : given.flag('summary')
      ? [`${base}/summary`, 'application/json']
      : [`${base}/results`, 'application/x-ndjson'];
  const response = await asked(server, path, { headers: { accept } });
  const body = response.body as unknown as AsyncIterable<Uint8Array> | null;
  try {
    for await (const piece of body ?? []) if (!process.stdout.write(piece)) await drained();
  } catch (error) {
    throw new CliError(`${server} has ended in the middle of its answer: ${textOf(error)}`, EXIT.FAILED);
  }
  return EXIT.OK;
}
function drained(): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.once('drain', () => resolve());
  });
}

/** Starts it; `wait`: until it is over. */
export async function runOnServer(url: string, template: unknown, wait: boolean): Promise<number> {
  const server = serverOf(url);
  const body = JSON.stringify(template);
  const started = await json<ExperimentView>(server, '/v1/experiments', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  });
  if (!wait) {
    console.log(started.id);
    return EXIT.OK;
  }
  console.error(viewText(started));
  let view = started;
  while (view.state === 'RUNNING') {
    view = await patiently(() => json<ExperimentView>(server, `/v1/experiments/${view.id}?wait=${WAIT_SECONDS}s`));
    if (view.state === 'RUNNING') console.error(viewText(view));
  }
  console.log(viewText(view));
  return view.state === 'SUCCEEDED' ? EXIT.OK : EXIT.FAILED;
}

/** An experiment outlives its server: a restart is waited for. */
async function patiently<T>(ask: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Unreachable) || attempt === RETRIES) throw error;
      await sleep(RETRY_MS);
    }
  }
}

class Unreachable extends CliError {}

function serverOf(option: string | undefined): string {
  const text = option ?? process.env['RINGSIDE_URL'];
  if (text === undefined) throw new CliError('which server? --server URL, or RINGSIDE_URL');
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol))
    throw new CliError(`'${text}' is no server: expected an address as http://127.0.0.1:8080`);
  return text.replace(/\/+$/, '');
}

async function json<T>(server: string, path: string, init: RequestInit = {}): Promise<T> {
  const response = await asked(server, path, init);
  try {
    return (await response.json()) as T;
  } catch (error) {
    throw new CliError(`${server} is no Ringside server, or has ended: ${textOf(error)}`, EXIT.FAILED);
  }
}

/** Throws CliError with the server's problem where it refuses: 2 where the request is wrong, 3 where the server is. */
async function asked(server: string, path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const token = process.env['RINGSIDE_TOKEN'];
  if (token !== undefined && token !== '') headers.set('authorization', `Bearer ${token}`);
  let response: Response;
  try {
    response = await fetch(server + path, { ...init, headers });
  } catch (error) {
    throw new Unreachable(`${server} cannot be reached: ${textOf(error)}`, EXIT.FAILED);
  }
  if (response.ok) return response;
  const text = await response.text();
  throw refused(server, response.status, text);
}
/** What fetch() fails with has its reason within. */
function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
function refused(server: string, status: number, text: string): CliError {
  const code = status < 500 ? EXIT.USAGE : EXIT.FAILED;
  if (status === 503) return new Unreachable(`${server} is starting or stopping`, code);
  try {
    const { code: name = String(status), detail = '', errors = [] } = JSON.parse(text) as ProblemView;
    const lines = errors.map(
      (one) => `  ${one.pointer}: ${one.detail}${one.expected === undefined ? '' : `; expected ${one.expected}`}`,
    );
    return new CliError([`${name}: ${detail}`, ...lines].join('\n'), code);
  } catch {
    return new CliError(`${server} answered ${status}: ${text.slice(0, 200)}`, code);
  }
}

function viewText({ id, name, state, reason, runs, progress, etaSeconds }: ExperimentView): string {
  const counts = Object.entries(runs).filter(([what, n]) => what !== 'total' && n > 0);
  const eta = state === 'RUNNING' && etaSeconds !== null ? `, ${Math.ceil(etaSeconds)} s left` : '';
  const why = reason === null ? '' : `: ${reason}`;
  return `${id} (${name})  ${state}${why}  ${Math.floor(progress * 100)} % of ${runs['total']} runs: ${counts.map(([what, n]) => `${n} ${what}`).join(', ')}${eta}`;
}
