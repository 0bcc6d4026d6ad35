/** The network of one host of a world: its streams, and the folder of its sockets. */
import { errorText } from './errors.ts';
import { NodeStreams } from './node-streams.ts';
import { RunFolder, runFolder } from './run-folder.ts';

export class HostStreams extends NodeStreams {
  readonly folder: string;
  private readonly run: RunFolder | null;
  /** Why the folder could not be made; sockets cannot be listened on then, and say so themselves. */
  readonly folderError: string | null = null;

  /** `root`: folder of the sockets of all topologies; `address`: what TCP listens on. */
  constructor(root: string, address: string, topology: string, host: string, onTick: (nowMs: number) => void) {
    const folder = runFolder(root, topology, host);
    super({ address, folder }, onTick);
    this.folder = folder;
    try {
      this.run = new RunFolder(folder);
    } catch (error) {
      this.run = null;
      this.folderError = errorText(error);
    }
  }

  override async close(): Promise<void> {
    await super.close();
    this.run?.remove();
  }
}
