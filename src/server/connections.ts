/**
 * Open connections and what they are busy with, so that the server can end without cutting a response short. Node's own
 * count does not do: it takes a response for done once its last byte is queued, sent or not.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

export class Connections {
  /** Responses that are on their way, by socket; a WebSocket is one for as long as it lasts. */
  private readonly busy = new Map<Socket, number>();
  private readonly open = new Set<Socket>();
  private readonly drained: (() => void)[] = [];
  private ending = false;

  constructor(server: Server) {
    server.on('connection', (socket: Socket) => {
      this.open.add(socket);
      socket.once('close', () => {
        this.open.delete(socket);
        this.busy.delete(socket);
        this.check();
      });
    });
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      this.begin(request.socket);
      response.once('close', () => this.finish(request.socket));
    });
    server.on('upgrade', (request: IncomingMessage) => this.begin(request.socket));
  }

  /** Resolves when every response has been sent, at the latest after `ms`. Connections end as they fall idle. */
  async drain(ms: number): Promise<void> {
    this.ending = true;
    for (const socket of this.open) if (!this.busy.has(socket)) socket.end();
    if (this.busy.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.drained.push(resolve);
    const timer = setTimeout(resolve, ms);
    await promise;
    clearTimeout(timer);
  }

  /** Cuts what is left. */
  cut(): void {
    for (const socket of this.open) socket.destroy();
  }

  private begin(socket: Socket): void {
    this.busy.set(socket, (this.busy.get(socket) ?? 0) + 1);
  }
  private finish(socket: Socket): void {
    const left = (this.busy.get(socket) ?? 1) - 1;
    if (left > 0) {
      this.busy.set(socket, left);
      return;
    }
    this.busy.delete(socket);
    if (this.ending) socket.end();
    this.check();
  }
  private check(): void {
    if (this.busy.size === 0) for (const resolve of this.drained.splice(0)) resolve();
  }
}
