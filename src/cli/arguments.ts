/** Command lines: options as they are declared, everything else refused with what there is. */
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { closeMatches } from '../lab/document-faults.ts';
import { CliError } from './cli-error.ts';

export interface Arguments {
  /** Operands, as many as the command takes. */
  readonly operands: readonly string[];
  text(name: string): string | undefined;
  /** An option that may be given several times. */
  texts(name: string): readonly string[];
  flag(name: string): boolean;
  /** A whole number in a range. */
  count(name: string, least: number, most: number): number | undefined;
}

export interface Command {
  /** After `ringside`. */
  readonly name: string;
  readonly usage: string;
  readonly options: ParseArgsOptionsConfig;
  /** Least and most operands. */
  readonly operands: readonly [least: number, most: number];
}

/** Throws CliError with the command's usage. */
export function readArguments(command: Command, args: readonly string[]): Arguments {
  const { values, positionals } = parsed(command, args);
  const [least, most] = command.operands;
  if (positionals.length < least) throw usageError(command, 'something is missing');
  if (positionals.length > most) throw usageError(command, `'${positionals[most]}' is too much`);
  const text = (name: string): string | undefined => {
    const value = values[name];
    return typeof value === 'string' ? value : undefined;
  };
  return {
    operands: positionals,
    text,
    texts: (name) => (values[name] as string[] | undefined) ?? [],
    flag: (name) => values[name] === true,
    count: (name, low, high) => {
      const value = text(name);
      if (value === undefined) return undefined;
      const n = /^\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
      if (n >= low && n <= high) return n;
      throw new CliError(`--${name} is '${value}': expected a whole number from ${low} to ${high}`);
    },
  };
}

function parsed(command: Command, args: readonly string[]) {
  const { options } = command;
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    const unknown = /^Unknown option '--?([^']+)'/.exec(error instanceof Error ? error.message : '')?.[1];
    if (unknown === undefined) throw usageError(command, error instanceof Error ? error.message : String(error));
    const near = closeMatches(unknown, Object.keys(options)).map((name) => `--${name}`);
    throw usageError(
      command,
      `there is no option '${unknown}'${near.length > 0 ? `; is it ${near.join(' or ')}?` : ''}`,
    );
  }
}
export function usageError(command: Command, what: string): CliError {
  return new CliError(`ringside ${command.name}: ${what}\n\n${command.usage}`);
}
