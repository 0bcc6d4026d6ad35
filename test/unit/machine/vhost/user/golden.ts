/** The recorded conversations of test/vectors/vhost-user/, by scenario. */
import { readdirSync, readFileSync } from 'node:fs';

const FOLDER = new URL('../../../../vectors/vhost-user/', import.meta.url);

export interface GoldenMessage {
  readonly seq: number;
  readonly channel: 'main' | 'backend';
  /** From the front-end (QEMU), or from the back-end (testpmd). */
  readonly from: 'F' | 'B';
  /** What /proc/<pid>/fd showed for the descriptors beside it. */
  readonly fds: readonly string[];
  readonly hex: string;
}
export interface Scenario {
  readonly name: string;
  readonly messages: readonly GoldenMessage[];
  /** Numbers of the lines where a connection ended. */
  readonly ends: readonly number[];
  /** First and last number of what was recorded in the phase whose name begins so; the `nth` of them. */
  phase(name: string, nth?: number): readonly [first: number, last: number];
  /** Messages from `first` to `last`. */
  between(first: number, last: number): GoldenMessage[];
}

type Line = [number, string, string, string[] | string, string];

export function scenario(name: string): Scenario {
  const file = JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), 'utf8')) as {
    phases: [string, number, number][];
    messages: Line[];
  };
  const messages = file.messages
    .filter(([, , , , hex]) => hex !== '')
    .map(
      ([seq, channel, dir, fds, hex]): GoldenMessage => ({
        seq,
        channel: channel === 'main' ? 'main' : 'backend',
        from: dir === 'F->B' ? 'F' : 'B',
        fds: Array.isArray(fds) ? fds : [],
        hex,
      }),
    );
  return {
    name,
    messages,
    ends: file.messages.filter(([, , , what]) => what === 'session_closed').map(([seq]) => seq),
    phase: (wanted, nth = 0) => {
      const found = file.phases.filter(([p]) => p.startsWith(wanted))[nth];
      if (found === undefined) throw new Error(`${name} has no phase ${wanted}`);
      return [found[1], found[2]];
    },
    between: (first, last) => messages.filter((m) => m.seq >= first && m.seq <= last),
  };
}
export const SCENARIOS: readonly string[] = readdirSync(FOLDER)
  .filter((f) => f.endsWith('.json'))
  .map((f) => f.slice(0, -5))
  .sort();
export const hexOf = (b: Uint8Array): string => Buffer.from(b).toString('hex');
export const unhex = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
