/** Open vSwitch's own daemons, in a folder of their own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child } from '../../tools/child.ts';
import { run } from './run.ts';

/** Whether somebody listens. */
function listens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

export class Daemons {
  readonly folder = mkdtempSync(join(tmpdir(), 'ovs-'));
  private readonly children: Child[] = [];

  private constructor() {}

  /** What `start` starts; all of it is ended where that throws. */
  static async start<T>(start: (daemons: Daemons) => Promise<T>): Promise<T> {
    const daemons = new Daemons();
    try {
      return await start(daemons);
    } catch (error) {
      await daemons.stop();
      throw error;
    }
  }

  /** ovsdb-server with an empty database of the schema in a file; returns the path of its socket. */
  async database(schema: string): Promise<string> {
    const [file, socket] = [join(this.folder, 'conf.db'), join(this.folder, 'db.sock')];
    const made = await run('ovsdb-tool', ['create', file, schema]);
    if (made.status !== 0) throw new Error(made.stderr);
    await this.daemon(socket, 'ovsdb-server', file, `--remote=punix:${socket}`, `--unixctl=${this.folder}/ovsdb.ctl`);
    return socket;
  }

  /** ovs-vswitchd with the database at a socket; every interface is a dummy. Returns the path of its unixctl socket. */
  async vswitchd(database: string): Promise<string> {
    const unixctl = join(this.folder, 'vswitchd.ctl');
    const dummies = ['--enable-dummy=override', '--disable-system'];
    await this.daemon(unixctl, 'ovs-vswitchd', `unix:${database}`, ...dummies, `--unixctl=${unixctl}`);
    return unixctl;
  }

  /** Starts a program that logs warnings, and waits until it listens. */
  private async daemon(socket: string, program: string, ...args: readonly string[]): Promise<void> {
    const { folder } = this;
    const env = { ...process.env, OVS_RUNDIR: folder, OVS_LOGDIR: folder, OVS_DBDIR: folder };
    const child = new Child(program, [...args, '-vconsole:warn', '-vsyslog:off'], { env });
    this.children.push(child);
    await child.until(() => listens(socket), 'listening');
  }

  async stop(): Promise<void> {
    for (const child of this.children.reverse()) await child.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
