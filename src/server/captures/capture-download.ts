/** Downloads of captures on disk: one file or a part of it, or all files as one section. Always whole blocks, also while it is written. */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { notFound, Problem } from '../problem.ts';
import type { CaptureFile } from './capture-job.ts';
import { MOST_AT_ONCE } from './file-index.ts';
import { headerLength } from './file-recovery.ts';

const CHUNK_BYTES = 256 << 10;

export interface ByteRange {
  /** First and last byte. */
  readonly start: number;
  readonly end: number;
}

/**
 * The range that a `Range` field asks for (RFC 9110 section 14); null where it asks for none that is understood, or for
 * several: then the whole is the answer. Throws RINGSIDE_E_RANGE.
 */
export function rangeOf(field: string | undefined, size: number): ByteRange | null {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(field?.replaceAll(' ', '') ?? '');
  if (match === null) return null;
  const [, first = '', last = ''] = match;
  if (first === '' && last === '') return null;
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1);
  if (last !== '' && first !== '' && Number(last) < start) return null;
  if (start <= end) return { start, end };
  throw new Problem('RINGSIDE_E_RANGE', `The file has ${size} bytes`, {
    headers: { 'content-range': `bytes */${size}` },
  });
}

/** The bytes of one file. The file is opened before the first one is asked for: a missing one is refused as a problem. */
export async function fileBytes(
  folder: string,
  file: CaptureFile,
  range: ByteRange,
): Promise<AsyncGenerator<Uint8Array, void, undefined>> {
  return chunksOf(await openFile(folder, file), range.start, range.end + 1);
}

/** All files as one section: of the later ones the blocks after their header, whose interfaces are known by then. */
export async function allFilesBytes(
  folder: string,
  files: readonly CaptureFile[],
): Promise<AsyncGenerator<Uint8Array, void, undefined>> {
  const [first, ...rest] = files;
  if (first === undefined) throw notFound('The capture has no files');
  const handle = await openFile(folder, first);
  return joined(handle, folder, first, rest);
}
async function* joined(
  handle: FileHandle,
  folder: string,
  first: CaptureFile,
  rest: readonly CaptureFile[],
): AsyncGenerator<Uint8Array, void, undefined> {
  yield* chunksOf(handle, 0, first.bytes);
  for (const file of rest) {
    // A ring of files that has removed it meanwhile ends the download: what follows may not fit what was sent.
    const next = await openFile(folder, file);
    const head = new Uint8Array(Math.min(file.bytes, 8 * MOST_AT_ONCE));
    const { bytesRead } = await next.read(head, 0, head.length, 0);
    yield* chunksOf(next, headerLength(head.subarray(0, bytesRead)), file.bytes);
  }
}

async function openFile(folder: string, file: CaptureFile): Promise<FileHandle> {
  try {
    return await open(join(folder, file.name), 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw notFound(`The file '${file.name}' has been removed`);
  }
}

async function* chunksOf(handle: FileHandle, start: number, end: number): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    for (let at = start; at < end; ) {
      const bytes = new Uint8Array(Math.min(CHUNK_BYTES, end - at));
      const { bytesRead } = await handle.read(bytes, 0, bytes.length, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      yield bytes.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}
