/**
 * Open files and the tables of descriptors that processes have of them: what ioctls name by number and what a Unix socket
 * carries along. A file is open until its last descriptor is closed (linux fs/file.c, fs/file_table.c fput()).
 */
import { EBADF, ENOTTY } from './errno.ts';

/** `open()` numbers descriptors from here in a process that has the standard three. */
const FIRST_FD = 3;

/** What a descriptor refers to. Several descriptors, also of different processes, may refer to one. */
export abstract class OpenFile {
  /** As /proc/<pid>/fd shows it: `/dev/vhost-net`, `anon_inode:[eventfd]`, `socket:[…]`. */
  readonly name: string;
  /** Descriptors that refer to it. */
  references = 0;

  constructor(name: string) {
    this.name = name;
  }

  /**
   * `argument`: what the request's pointer leads to, read and written in place; `value` where the request takes a number
   * instead. Returns 0 or more, or a negative errno.
   */
  ioctl(_request: number, _argument: Uint8Array, _value = 0): number {
    return -ENOTTY;
  }
  /** The last descriptor was closed. */
  protected released(): void {}

  /** One descriptor less. */
  put(): void {
    this.references--;
    if (this.references === 0) this.released();
  }
}

/** The descriptors of one process. The lowest free number is given out, as POSIX has it. */
export class FdTable {
  private readonly files: (OpenFile | undefined)[] = [];

  /** A descriptor for `file`. */
  install(file: OpenFile): number {
    let slot = this.files.indexOf(undefined);
    if (slot < 0) slot = this.files.length;
    this.files[slot] = file;
    file.references++;
    return slot + FIRST_FD;
  }
  /** What `fd` refers to; undefined where it is not open. */
  file(fd: number): OpenFile | undefined {
    return Number.isInteger(fd) ? this.files[fd - FIRST_FD] : undefined;
  }
  /** close(2): 0, or -EBADF. */
  close(fd: number): number {
    const file = this.file(fd);
    if (file === undefined) return -EBADF;
    this.files[fd - FIRST_FD] = undefined;
    file.put();
    return 0;
  }
  /** ioctl(2) on a descriptor. */
  ioctl(fd: number, request: number, argument: Uint8Array = new Uint8Array(0), value = 0): number {
    const file = this.file(fd);
    return file === undefined ? -EBADF : file.ioctl(request, argument, value);
  }
  /** The process ends: everything is closed. */
  closeAll(): void {
    for (let slot = 0; slot < this.files.length; slot++)
      if (this.files[slot] !== undefined) this.close(slot + FIRST_FD);
  }
  /** Descriptors that are open. */
  get open(): number {
    return this.files.filter((f) => f !== undefined).length;
  }
  /** Those that are open, by number, with what they refer to. */
  *entries(): Generator<readonly [number, OpenFile]> {
    for (const [slot, file] of this.files.entries()) if (file !== undefined) yield [slot + FIRST_FD, file];
  }
}
