/**
 * The rows of one frame in the files of a capture: the index says which stretches may hold them, and what the writer has
 * not indexed yet is walked. A frame of a long capture costs its index and some groups of rows.
 */
import { open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KIND_BY_ID } from '../../engine/events.ts';
import { BlockWalk, PACKET_BLOCK } from '../../readers/capture/pcapng-blocks.ts';
import type { CaptureFile } from './capture-job.ts';
import { FileIndex, indexName, MOST_AT_ONCE } from './file-index.ts';
import { headerLength } from './file-recovery.ts';

/** Rows of one frame that are answered; a frame has some dozens. */
const MOST_HOPS = 10_000;

export interface CapturedHop {
  readonly file: string;
  readonly ns: number;
  readonly time: number;
  readonly text: string;
  readonly place: string;
  readonly event: string;
  readonly context: string;
  readonly costNs: number;
  readonly waitedNs: number;
  readonly copiedBytes: number;
  readonly copies: number;
  readonly exits: number;
  readonly exitReasons: string[];
  readonly kicks: number;
  readonly interrupts: number;
  readonly cache: string | null;
  readonly drop: string | null;
  readonly parent: number | null;
  readonly seq: number | null;
  readonly bytes: number;
  readonly hex: string;
}
export interface CapturedFrame {
  readonly frame: number;
  readonly outcome: string | null;
  readonly hops: CapturedHop[];
}

/** Finds the rows of `frame`; `hops` is empty where no file has one. Files that are removed meanwhile have none. */
export async function findCapturedFrame(
  folder: string,
  files: readonly CaptureFile[],
  frame: number,
): Promise<CapturedFrame> {
  const hops: CapturedHop[] = [];
  for (const file of files) {
    if (file.sealed && (frame < file.firstFrame || frame > file.lastFrame)) continue;
    try {
      await findInFile(folder, file.name, frame, hops);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return { frame, outcome: outcomeOf(hops), hops };
}

async function findInFile(folder: string, name: string, frame: number, hops: CapturedHop[]): Promise<void> {
  const path = join(folder, name);
  const [indexBytes, { size }] = await Promise.all([readFile(indexName(path)), stat(path)]);
  const index = new FileIndex(indexBytes, size);
  const data = await open(path, 'r');
  try {
    const read = async (offset: number, length: number): Promise<Uint8Array> => {
      const bytes = new Uint8Array(Math.min(length, size - offset));
      const { bytesRead } = await data.read(bytes, 0, bytes.length, offset);
      return bytes.subarray(0, bytesRead);
    };
    for (const { offset, length } of index.stretches(frame)) take(await read(offset, length), name, frame, hops);
    let at = index.end;
    if (at < 0) at = headerLength(await read(0, size));
    while (at < size) {
      const whole = take(await read(at, MOST_AT_ONCE), name, frame, hops);
      if (whole === 0) break;
      at += whole;
    }
  } finally {
    await data.close();
  }
}

/** Takes the frame's rows out of a stretch of blocks; returns the bytes in whole blocks. */
function take(bytes: Uint8Array, file: string, frame: number, hops: CapturedHop[]): number {
  const walk = new BlockWalk(bytes);
  while (walk.step()) {
    if (walk.type !== PACKET_BLOCK || walk.packetId() !== frame || hops.length >= MOST_HOPS) continue;
    hops.push(hopOf(file, walk.comment(), walk.original, Buffer.from(walk.data).toString('hex')));
  }
  return walk.end;
}

/** A row's comment is a sentence, ` | `, and words `key=value`. */
function hopOf(file: string, comment: string, bytes: number, hex: string): CapturedHop {
  const bar = comment.indexOf(' | ');
  const words = new Map<string, string>();
  for (const word of comment.slice(bar + 3).split(' ')) {
    const equals = word.indexOf('=');
    if (equals > 0) words.set(word.slice(0, equals), word.slice(equals + 1));
  }
  const number = (key: string): number => Number(words.get(key) ?? 0);
  const numberOrNull = (key: string): number | null => (words.has(key) ? number(key) : null);
  const ns = number('ns');
  return {
    file,
    ns,
    time: ns / 1e9,
    text: comment.slice(0, Math.max(0, bar)),
    place: words.get('hop') ?? '',
    event: words.get('event') ?? '',
    context: words.get('ctx') ?? '',
    costNs: number('cost'),
    waitedNs: number('wait'),
    copiedBytes: number('copy'),
    copies: number('copies'),
    exits: number('exits'),
    exitReasons: words.get('exit')?.split(',') ?? [],
    kicks: number('kick'),
    interrupts: number('irq'),
    cache: words.get('cache') ?? null,
    drop: words.get('drop') ?? null,
    parent: numberOrNull('parent'),
    seq: numberOrNull('seq'),
    bytes,
    hex,
  };
}

const ROLE_OF_EVENT = new Map(KIND_BY_ID.flatMap((kind) => (kind === undefined ? [] : [[kind.name, kind.role]])));
function outcomeOf(hops: readonly CapturedHop[]): string | null {
  for (const { event, drop } of hops.toReversed()) {
    if (drop !== null) return `dropped:${drop}`;
    const role = ROLE_OF_EVENT.get(event);
    if (role === 'delivered' || role === 'consumed') return role;
  }
  return null;
}
