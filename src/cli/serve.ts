/** `ringside serve`: the server, with options in the place of environment variables. */
import { readSettings, SettingsError } from '../server/settings.ts';
import { type Command, readArguments } from './arguments.ts';
import { CliError } from './cli-error.ts';

export const SERVE: Command = {
  name: 'serve',
  usage: `Usage: ringside serve [options]

Starts the server, as \`npm start\` does; the environment counts where no option is given.

  --host HOST        address to listen on (HOST)
  --port PORT        port to listen on, 0 for a free one (PORT)
  --data-dir FOLDER  where state is kept (RINGSIDE_DATA_DIR)
  --workers N        engine threads of live topologies (RINGSIDE_WORKERS)
  --token-file FILE  file with the token that clients have to show (RINGSIDE_TOKEN_FILE)
  --nats URL         NATS server that experiments are run over (RINGSIDE_NATS_URL)`,
  options: {
    host: { type: 'string' },
    port: { type: 'string' },
    'data-dir': { type: 'string' },
    workers: { type: 'string' },
    'token-file': { type: 'string' },
    nats: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
  operands: [0, 0],
};
const VARIABLES: Readonly<Record<string, string>> = {
  host: 'HOST',
  port: 'PORT',
  'data-dir': 'RINGSIDE_DATA_DIR',
  workers: 'RINGSIDE_WORKERS',
  'token-file': 'RINGSIDE_TOKEN_FILE',
  nats: 'RINGSIDE_NATS_URL',
};

/** Sets what the options say in the environment, which the entry reads. */
export function intoEnvironment(
  command: Command,
  variables: Readonly<Record<string, string>>,
  args: readonly string[],
): void {
  const given = readArguments(command, args);
  for (const [option, variable] of Object.entries(variables)) {
    const value = given.text(option);
    if (value !== undefined) process.env[variable] = value;
  }
}

export async function serveCommand(args: readonly string[]): Promise<null> {
  intoEnvironment(SERVE, VARIABLES, args);
  try {
    readSettings(process.env);
  } catch (error) {
    if (error instanceof SettingsError) throw new CliError(error.message);
    throw error;
  }
  await import('../server/main.ts');
  return null;
}
