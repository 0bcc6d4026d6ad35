/**
 * Runs of an experiment in a file: a line that says which experiment and which part of it, then a line of JSON for each run. While
 * a part runs, lines are appended as runs end; what was cut off in the middle of a line is run again. A part that is over is
 * written anew, in the order of the runs, under the name that `experiment merge` looks for.
 */
import { closeSync, existsSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import type { CostProfileDocument } from '../lab/cost-profile-document.ts';
import type { Shard } from '../lab/experiment/schedule.ts';
import type { JobProblem, JobResult } from '../lab/job/job.ts';
import { CliError } from './cli-error.ts';

/** What the lines of a file are about. */
export interface RunFileHeader {
  readonly ringside: 'experiment';
  /** Version of the sources that computed it. */
  readonly engine: string;
  /** contentHash() of template, profiles and engine: parts of one experiment have one. */
  readonly experiment: string;
  readonly shard: Shard;
  readonly template: unknown;
  /** Users' profiles that its documents may name. */
  readonly profiles: readonly CostProfileDocument[];
}

export interface RunLine {
  readonly run: number;
  /** contentHash(job). */
  readonly key: string;
  readonly seed: number;
  readonly state: 'SUCCEEDED' | 'FAILED';
  /** contentHash(result); null where the job came to none. */
  readonly digest: string | null;
  readonly wallSeconds: number;
  readonly problem: JobProblem | null;
  readonly result: JobResult | null;
}

/** Where a line is, with what is asked of it most. */
export interface RunPlace {
  readonly run: number;
  readonly key: string;
  readonly state: RunLine['state'];
  readonly digest: string | null;
  readonly at: number;
  readonly bytes: number;
}

const CHUNK = 1 << 20;
const NEWLINE = 10;

export class RunFile {
  readonly path: string;
  readonly header: RunFileHeader;
  /** In the file's order. */
  readonly places: RunPlace[] = [];
  private readonly file: number;
  private end = 0;

  private constructor(path: string, file: number, header: RunFileHeader) {
    this.path = path;
    this.file = file;
    this.header = header;
  }

  /** A new file, or one that is there and has the same header: its whole lines are kept. */
  static continue(path: string, header: RunFileHeader): RunFile {
    const there = existsSync(path);
    const file = opened(path, there ? 'r+' : 'w+');
    const own = new RunFile(path, file, header);
    const first = there ? own.scan() : null;
    // a header that was cut off is no whole line
    const foreign =
      first === null
        ? wholeLines(file).next().done !== true
        : first.experiment !== header.experiment || !sameShard(first.shard, header.shard);
    if (foreign) {
      closeSync(file);
      throw new CliError(`${path} holds another experiment, or another part of it: choose another --out, or remove it`);
    }
    ftruncateSync(file, own.end);
    if (first === null) own.write(header);
    return own;
  }
  static create(path: string, header: RunFileHeader): RunFile {
    const own = new RunFile(path, opened(path, 'w+'), header);
    own.write(header);
    return own;
  }
  static read(path: string): RunFile {
    const file = opened(path, 'r');
    const probe = new RunFile(path, file, { shard: { index: 0, count: 1 } } as RunFileHeader);
    const header = probe.scan();
    if (header === null) throw new CliError(`${path} is no file of runs`);
    const own = new RunFile(path, file, header);
    own.places.push(...probe.places);
    own.end = probe.end;
    return own;
  }

  append(line: RunLine): RunPlace {
    const at = this.end;
    this.write(line);
    const { run, key, state, digest } = line;
    const place = { run, key, state, digest, at, bytes: this.end - at };
    this.places.push(place);
    return place;
  }
  line({ at, bytes }: RunPlace): RunLine {
    const buffer = Buffer.alloc(bytes);
    if (readSync(this.file, buffer, 0, bytes, at) !== bytes) throw new CliError(`${this.path} has become shorter`);
    return JSON.parse(buffer.toString('utf8')) as RunLine;
  }
  close(): void {
    closeSync(this.file);
  }

  private write(value: object): void {
    const bytes = Buffer.from(`${JSON.stringify(value)}\n`);
    writeSync(this.file, bytes, 0, bytes.length, this.end);
    this.end += bytes.length;
  }

  /** Reads the header and where the lines are, up to the last whole line that is one. Null: there is no header. */
  private scan(): RunFileHeader | null {
    let header: RunFileHeader | null = null;
    for (const { at, text, bytes } of wholeLines(this.file)) {
      const value = parsed(text);
      if (value === null) break;
      if (header === null) {
        if (!isHeader(value)) break;
        header = value;
      } else {
        const { run, key, state, digest } = value as unknown as RunLine;
        this.places.push({ run, key, state, digest, at, bytes });
      }
      this.end = at + bytes;
    }
    return header;
  }
}

function opened(path: string, flags: string): number {
  try {
    return openSync(path, flags);
  } catch (error) {
    throw new CliError(`${path} cannot be used: ${error instanceof Error ? error.message : String(error)}`);
  }
}
function parsed(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
function isHeader(value: object): value is RunFileHeader {
  const { ringside, engine, experiment, shard, profiles } = value as Partial<RunFileHeader>;
  return (
    ringside === 'experiment' &&
    typeof engine === 'string' &&
    typeof experiment === 'string' &&
    Number.isInteger(shard?.index) &&
    Number.isInteger(shard?.count) &&
    Array.isArray(profiles)
  );
}
const sameShard = (a: Shard, b: Shard): boolean => a.index === b.index && a.count === b.count;

/** `at` and `bytes`, newline included, are where the line is in the file. */
function* wholeLines(file: number): Generator<{ readonly at: number; readonly text: string; readonly bytes: number }> {
  let rest = Buffer.alloc(0);
  let at = 0;
  const chunk = Buffer.alloc(CHUNK);
  for (let position = 0; ; ) {
    const n = readSync(file, chunk, 0, CHUNK, position);
    if (n === 0) return;
    position += n;
    rest = Buffer.concat([rest, chunk.subarray(0, n)]);
    let from = 0;
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE, from)) {
      const bytes = end + 1 - from;
      yield { at, text: rest.toString('utf8', from, end), bytes };
      at += bytes;
      from = end + 1;
    }
    rest = rest.subarray(from);
  }
}
