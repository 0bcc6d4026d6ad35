/**
 * Files of a capture whose writer was stopped in the middle: the torn end is trimmed to the last whole block, and the index
 * is completed from where it ends, or made anew where it says nothing usable. Costs the part that is not indexed.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { BlockWalk, type Epoch, INTERFACE_BLOCK, SECTION_BLOCK } from '../../readers/capture/pcapng-blocks.ts';
import type { CaptureFile } from './capture-job.ts';
import {
  FileIndex,
  INDEX_HEADER,
  INDEX_RECORD,
  IndexBuilder,
  indexBlocks,
  indexHeader,
  indexName,
  MOST_AT_ONCE,
  RowGroup,
} from './file-index.ts';

const DATA_FILE = /^\d{5,}\.pcapng$/;

/** Recovers every file of a folder, oldest first; nothing where the folder is gone. */
export function recoverFolder(folder: string, epoch: Epoch): CaptureFile[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => DATA_FILE.test(name))
    .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))
    .map((name) => recoverFile(folder, name, epoch));
}

/** Bytes of all files of a folder. */
export function folderBytes(folder: string): number {
  if (!existsSync(folder)) return 0;
  return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

export function recoverFile(folder: string, name: string, epoch: Epoch): CaptureFile {
  const path = join(folder, name);
  const data = openSync(path, 'r+');
  try {
    const size = fstatSync(data).size;
    const indexPath = indexName(path);
    const old = existsSync(indexPath) ? readFileSync(indexPath) : new Uint8Array(0);
    const index = new FileIndex(old, size);
    const sums = new RowGroup();
    for (let i = 0; i < index.records; i++) sums.addGroup(index.group(i));
    const start = index.records > 0 ? index.end : headerEnd(data, size);
    const groups = new IndexBuilder(start);
    const end = start === 0 ? 0 : indexRest(data, start, size, epoch, groups, sums);
    if (end < size) ftruncateSync(data, end);
    groups.close();
    const kept = old.subarray(INDEX_HEADER, INDEX_HEADER + index.records * INDEX_RECORD);
    writeFileSync(indexPath, Buffer.concat([indexHeader(epoch), kept, groups.take() ?? new Uint8Array(0)]), {
      mode: 0o600,
    });
    return fileFacts(name, end, sums, true);
  } finally {
    closeSync(data);
  }
}

/** Walks from `start` on, a stretch at a time; returns the end of the last whole block. */
function indexRest(
  data: number,
  start: number,
  size: number,
  epoch: Epoch,
  groups: IndexBuilder,
  sums: RowGroup,
): number {
  const buffer = new Uint8Array(Math.min(size - start, MOST_AT_ONCE));
  let at = start;
  while (at < size) {
    const n = readSync(data, buffer, 0, buffer.length, at);
    const whole = indexBlocks(buffer.subarray(0, n), epoch, groups, sums);
    if (whole === 0) break;
    at += whole;
  }
  return at;
}

/** End of the section header and the interfaces at the beginning; 0 where there is no whole section header. */
function headerEnd(data: number, size: number): number {
  const buffer = new Uint8Array(Math.min(size, 8 * MOST_AT_ONCE));
  const n = readSync(data, buffer, 0, buffer.length, 0);
  return headerLength(buffer.subarray(0, n));
}
/** Length of the section header and of the interfaces that follow it at once, bytes. */
export function headerLength(file: Uint8Array): number {
  const walk = new BlockWalk(file);
  const first = walk.step() ? walk.type : 0;
  if (first !== SECTION_BLOCK) return 0;
  let end = walk.end;
  while (walk.step() && walk.type === INTERFACE_BLOCK) end = walk.end;
  return end;
}

/** What is said about a file, from the sums over its rows. */
export function fileFacts(name: string, bytes: number, sums: RowGroup, sealed: boolean): CaptureFile {
  const none = sums.packets === 0;
  return {
    name,
    bytes,
    packets: sums.packets,
    firstFrame: Number.isFinite(sums.firstFrame) ? sums.firstFrame : 0,
    lastFrame: sums.lastFrame,
    firstNs: none ? 0 : sums.firstNs,
    lastNs: none ? 0 : sums.lastNs,
    sealed,
  };
}
