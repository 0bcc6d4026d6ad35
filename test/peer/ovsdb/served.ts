/** ovsdb-server over real sockets, without a world: what peer tests of the database talk to. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NodeStreams } from '../../../src/attach/node-streams.ts';
import { RandomStream } from '../../../src/engine/random.ts';
import { OvsdbServer } from '../../../src/machine/ovs/ovsdb/rpc/server.ts';
import type { Door } from '../../../src/machine/ovs/stream.ts';

/** A door that leads nowhere: transactions run at once. */
export const OPEN_DOOR: Door = { act: (_command, _detail, run) => run(0, 0), now: () => 0 };

export interface Served {
  readonly server: OvsdbServer;
  readonly streams: NodeStreams;
  /** `tcp:127.0.0.1:PORT` */
  readonly tcp: string;
  /** `unix:PATH` */
  readonly unix: string;
  readonly folder: string;
  close(): Promise<void>;
}

/** A server with the one row that ovs-vsctl init makes. */
export async function serve(seed = 1): Promise<Served> {
  const random = new RandomStream(seed, 'ovsdb');
  const server = new OvsdbServer({ random, door: OPEN_DOOR, clock: () => performance.now() });
  server.database.edit((edit) => void edit.insert('Open_vSwitch', {}));
  const folder = mkdtempSync(join(tmpdir(), 'ovsdb-'));
  const streams = new NodeStreams({ address: '127.0.0.1', folder });
  const listening = (target: string): Promise<string> =>
    new Promise((resolve, reject) => streams.listen(target, server, resolve, (error) => reject(new Error(error))));
  const tcp = await listening('ptcp:0:127.0.0.1');
  const path = join(folder, 'db.sock');
  await listening(`punix:${path}`);
  return {
    server,
    streams,
    tcp: `tcp:127.0.0.1:${tcp.split(':')[1]}`,
    unix: `unix:${path}`,
    folder,
    close: async () => {
      await streams.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
