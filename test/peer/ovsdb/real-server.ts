/** The real ovsdb-server on a unix socket, and a client that speaks to it. */
import { writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Json, JsonObject } from '../../../src/machine/ovs/ovsdb/json.ts';
import { JsonStream } from '../../../src/machine/ovs/ovsdb/rpc/framing.ts';
import { type DatabaseSchema, schemaToJson } from '../../../src/machine/ovs/ovsdb/schema/types.ts';
import { Daemons } from '../ovs/daemons.ts';

/** Requests and replies in order; notifications are gathered. */
export class LineClient {
  readonly notifications: JsonObject[] = [];
  private readonly socket: Socket;
  private readonly stream = new JsonStream();
  private readonly waiting: {
    readonly resolve: (message: JsonObject) => void;
    readonly reject: (error: Error) => void;
  }[] = [];

  constructor(path: string) {
    this.socket = connect(path);
    this.socket.on('data', (chunk: Buffer) =>
      this.stream.feed(chunk, (json) => {
        const message = json as JsonObject;
        if (message['id'] === null) this.notifications.push(message);
        else if (message['method'] === 'echo') this.write({ id: message['id']!, result: [], error: null });
        else this.waiting.shift()?.resolve(message);
        return true;
      }),
    );
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      for (const { reject } of this.waiting.splice(0)) reject(new Error('the real ovsdb-server is gone'));
    });
  }
  private write(message: Json): void {
    this.socket.write(JSON.stringify(message));
  }
  ask(method: string, ...params: Json[]): Promise<JsonObject> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.write({ id: 1, method, params });
    });
  }
  end(): void {
    this.socket.destroy();
  }
}

/** Starts it with an empty database of a schema. */
export function startRealServer(schema: DatabaseSchema): Promise<{ readonly path: string; stop(): Promise<void> }> {
  return Daemons.start(async (daemons) => {
    const file = join(daemons.folder, 's.ovsschema');
    writeFileSync(file, JSON.stringify(schemaToJson(schema)));
    const path = await daemons.database(file);
    return { path, stop: () => daemons.stop() };
  });
}
