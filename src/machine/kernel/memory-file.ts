/**
 * Memory with a descriptor (memfd_create(2), or a file of hugetlbfs), and what a process has mapped of such files. A mapping
 * holds its file as a descriptor does: it stays when the descriptor is closed (linux mm/mmap.c, vma->vm_file).
 */
import { EBADF, EINVAL, ENODEV } from './errno.ts';
import { type FdTable, OpenFile } from './files.ts';

export class MemoryFile extends OpenFile {
  readonly size: number;
  /** Its bytes, or null where they are a piece of the arena that its owner knows: guest RAM. */
  readonly bytes: Uint8Array | null;
  /** Of guest RAM: where in the arena it starts. */
  readonly arenaOffset: number;

  /** `name` as /proc/<pid>/fd shows it: `memfd:memory-backend-memfd`. */
  constructor(
    name: string,
    size: number,
    options: { readonly bytes?: Uint8Array; readonly arenaOffset?: number } = {},
  ) {
    super(name);
    this.size = size;
    this.bytes = options.bytes ?? null;
    this.arenaOffset = options.arenaOffset ?? -1;
  }
}
/** A memfd with bytes of its own, all zero. */
export const memfd = (name: string, size: number): MemoryFile =>
  new MemoryFile(`memfd:${name}`, size, { bytes: new Uint8Array(new SharedArrayBuffer(size)) });

export interface Mapping {
  readonly file: MemoryFile;
  /** Of the file. */
  readonly offset: number;
  readonly length: number;
}

/** What one process has mapped. */
export class Mappings {
  private readonly all = new Set<Mapping>();

  /** mmap(2) of a descriptor, shared: the mapping, or -EBADF, -ENODEV (no memory behind it), -EINVAL (not inside the file). */
  map(table: FdTable, fd: number, offset: number, length: number): Mapping | number {
    const file = table.file(fd);
    if (file === undefined) return -EBADF;
    if (!(file instanceof MemoryFile)) return -ENODEV;
    if (offset < 0 || length <= 0 || !Number.isSafeInteger(offset + length) || offset + length > file.size)
      return -EINVAL;
    const mapping: Mapping = { file, offset, length };
    file.references++;
    this.all.add(mapping);
    return mapping;
  }
  /** munmap(2). */
  unmap(mapping: Mapping): void {
    if (this.all.delete(mapping)) mapping.file.put();
  }
  get count(): number {
    return this.all.size;
  }
}
