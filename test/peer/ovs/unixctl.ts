/** Commands of a unixctl socket without a process for each (lib/unixctl.c: JSON-RPC, one request and one reply at a time). */
import { connect, type Socket } from 'node:net';

const CLOSED = 'the connection was closed';

export class Unixctl {
  private text = '';
  private closed = false;
  private waiting: ((line: { result?: string; error?: string }) => void) | null = null;
  declare private readonly socket: Socket;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (data: string) => this.take(data));
    // A daemon that ends itself answers nothing more, whether it is asked by then or later.
    socket.on('close', () => {
      this.closed = true;
      this.waiting?.({ error: CLOSED });
    });
    socket.on('error', () => undefined);
  }

  static open(path: string): Promise<Unixctl> {
    return new Promise((resolve, reject) => {
      const socket = connect(path, () => resolve(new Unixctl(socket)));
      socket.on('error', reject);
    });
  }

  /** The command's text. Throws what the server says is wrong. */
  async ask(method: string, ...params: readonly string[]): Promise<string> {
    if (this.closed) throw new Error(CLOSED);
    const reply = new Promise<{ result?: string; error?: string }>((resolve) => {
      this.waiting = resolve;
    });
    this.socket.write(JSON.stringify({ id: 0, method, params }));
    const { result, error } = await reply;
    if (typeof error === 'string') throw new Error(error);
    return result ?? '';
  }

  close(): void {
    this.socket.destroy();
  }

  /** A reply is whole when its braces are closed. */
  private take(data: string): void {
    this.text += data;
    if (!this.text.trimEnd().endsWith('}')) return;
    let reply: { result?: string; error?: string };
    try {
      reply = JSON.parse(this.text) as { result?: string; error?: string };
    } catch {
      return;
    }
    this.text = '';
    this.waiting?.(reply);
  }
}
