/** A command of ovs-vswitchd's control socket (ovs lib/unixctl.c). */
import type { Door } from '../stream.ts';
import type { CtlHost } from './host.ts';

/** What a command finds: the host's switch, and the way into its world. */
export interface Ctl {
  readonly host: CtlHost;
  readonly door: Door;
  /** All commands that there are. */
  readonly commands: ReadonlyMap<string, Command>;
}
export interface Command {
  readonly name: string;
  /** Arguments, as `list-commands` shows them. */
  readonly usage: string;
  readonly minArgs: number;
  readonly maxArgs: number;
  /** Returns what it prints. Throws CtlError with what is wrong. */
  readonly run: (args: readonly string[], ctl: Ctl) => string;
}
/** A command refuses; the client shows the text and ends with exit status 2. */
export class CtlError extends Error {}

export const command = (
  name: string,
  usage: string,
  minArgs: number,
  maxArgs: number,
  run: Command['run'],
): Command => ({ name, usage, minArgs, maxArgs, run });

/** Number of arguments that commands with `…` take at most. */
export const ANY_ARGS = 2 ** 31 - 1;

/** Runs `act` at the world's time; the journal keeps the command line. What it refuses has done the world no harm. */
export function doing<T>({ door }: Ctl, line: readonly string[], act: (now: number, contextBits: number) => T): T {
  const done = door.act('ovs-appctl', line.join(' '), (now, contextBits): { result: T } | CtlError => {
    try {
      return { result: act(now, contextBits) };
    } catch (error) {
      if (error instanceof CtlError) return error;
      throw error;
    }
  });
  if (done instanceof CtlError) throw done;
  return done.result;
}

/** printf's `%*s` and `%-*s`. */
export const right = (text: string | number, width: number): string => String(text).padStart(width);
export const left = (text: string | number, width: number): string => String(text).padEnd(width);
