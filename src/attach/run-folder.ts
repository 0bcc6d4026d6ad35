/**
 * The folder of one host's sockets, as `/var/run/openvswitch` is: `OVS_RUNDIR` may name it. Beside the sockets it holds
 * ovs-vswitchd's pid file, by which ovs-appctl finds the control socket `ovs-vswitchd.<pid>.ctl`.
 */
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, rmdirSync, rmSync, symlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { MAX_PATH_BYTES } from './node-streams.ts';

/** The longest name of a socket: a bridge's, which has 15 bytes, or a control socket's. */
const LONGEST_NAME = 'ovs-vswitchd.4194304.ctl'.length;

/** The folder of a host's sockets below `root`, or, where their paths would be too long, one of its own for temporary files. */
export function runFolder(root: string, topology: string, host: string): string {
  const folder = join(root, topology, host);
  if (Buffer.byteLength(folder) + 1 + LONGEST_NAME <= MAX_PATH_BYTES) return folder;
  const digest = createHash('sha256').update(folder).digest('hex').slice(0, 16);
  return join(tmpdir(), `ringside-${digest}`);
}

export class RunFolder {
  readonly path: string;
  private lock: DatabaseSync | null = null;
  private pidFile = -1;

  /** Makes it anew; what is there is of a server that has died. Throws where it cannot be made. */
  constructor(path: string) {
    this.path = path;
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path, { recursive: true, mode: 0o700 });
    this.writePidFile();
  }

  /**
   * ovs-appctl believes a pid file only while the process whose number it holds has it locked (ovs lib/daemon-unix.c
   * read_pidfile__(), F_GETLK). Node.js has no such locks, but SQLite takes one of the same kind on a database that is opened
   * exclusively, here an empty one; the number is written past SQLite. The lock goes when any descriptor of the file is closed, so
   * there is one more, and it stays.
   */
  private writePidFile(): void {
    const path = join(this.path, 'ovs-vswitchd.pid');
    this.pidFile = openSync(path, 'w+');
    this.lock = new DatabaseSync(path);
    this.lock.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    writeSync(this.pidFile, `${process.pid}\n`);
    symlinkSync('ovs-vswitchd.ctl', join(this.path, `ovs-vswitchd.${process.pid}.ctl`));
  }

  remove(): void {
    this.lock?.close();
    this.lock = null;
    if (this.pidFile >= 0) closeSync(this.pidFile);
    this.pidFile = -1;
    rmSync(this.path, { recursive: true, force: true });
    const above = dirname(this.path);
    if (above === tmpdir()) return;
    try {
      // the topology's, unless another host of it is still there
      rmdirSync(above);
    } catch {}
  }
}
