/**
 * The command line: `ringside COMMAND …`. Each command is loaded when it is wanted. What is wrong with a command line or a document
 * is told in plain sentences on standard error; exit codes are in cli-error.ts.
 */
import { closeMatches } from '../lab/document-faults.ts';
import { CliError, EXIT } from './cli-error.ts';

type Run = (args: readonly string[]) => Promise<number | null>;
interface Entry {
  readonly summary: string;
  /** Null: it goes on, as a server does. */
  readonly load: () => Promise<{ readonly usage: string; readonly run: Run }>;
}

const COMMANDS: Readonly<Record<string, Entry>> = {
  serve: {
    summary: 'start the server, as npm start does',
    load: async () => {
      const { SERVE, serveCommand } = await import('./serve.ts');
      return { usage: SERVE.usage, run: serveCommand };
    },
  },
  worker: {
    summary: 'work on jobs of a NATS queue',
    load: async () => {
      const { WORKER, worker } = await import('./worker.ts');
      return { usage: WORKER.usage, run: worker };
    },
  },
  run: {
    summary: 'one run of a document, with assertions for CI',
    load: async () => {
      const { RUN, run } = await import('./run.ts');
      return { usage: RUN.usage, run };
    },
  },
  experiment: {
    summary: 'run experiments here, in parts, or on a server',
    load: async () => {
      const { EXPERIMENT_USAGE, experiment } = await import('./experiment.ts');
      return { usage: EXPERIMENT_USAGE, run: experiment };
    },
  },
  convert: {
    summary: 'a document from JSON to YAML or back',
    load: async () => {
      const { CONVERT, convert } = await import('./convert.ts');
      return { usage: CONVERT.usage, run: convert };
    },
  },
  openapi: {
    summary: 'print the API document',
    load: async () => {
      const { OPENAPI, openapi } = await import('./openapi.ts');
      return { usage: OPENAPI.usage, run: openapi };
    },
  },
};

const USAGE = `Usage: ringside COMMAND [options]

${Object.entries(COMMANDS)
  .map(([name, { summary }]) => `  ${name.padEnd(12)}${summary}`)
  .join('\n')}

\`ringside COMMAND --help\` says more. Exit codes: 0 ok, 1 an assertion does not hold, 2 wrong usage or document, 3 failed.`;

async function main(args: readonly string[]): Promise<number | null> {
  const [name = '--help', ...rest] = args;
  if (['--help', '-h', 'help'].includes(name)) {
    console.log(USAGE);
    return args.length === 0 ? EXIT.USAGE : EXIT.OK;
  }
  if (name === '--version') {
    const { VERSION } = await import('../server/version.ts');
    console.log(VERSION);
    return EXIT.OK;
  }
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (entry === undefined) {
    const near = closeMatches(name, Object.keys(COMMANDS));
    throw new CliError(
      `ringside: there is no command '${name}'${near.length > 0 ? `; is it ${near.join(' or ')}?` : ''}\n\n${USAGE}`,
    );
  }
  const { usage, run } = await entry.load();
  if (rest.includes('--help') || rest.includes('-h')) {
    console.log(usage);
    return EXIT.OK;
  }
  return run(rest);
}

// Who reads no further, as head does, has seen what it wanted.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(process.exitCode ?? EXIT.OK);
});

/** Set, not called: what was written to a pipe is not cut off. */
try {
  const code = await main(process.argv.slice(2));
  if (code !== null) process.exitCode = code;
} catch (error) {
  if (!(error instanceof CliError)) throw error;
  console.error(error.message);
  process.exitCode = error.code;
}
