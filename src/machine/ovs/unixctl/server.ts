/**
 * The control socket of ovs-vswitchd (ovs lib/unixctl.c): JSON-RPC requests whose method is the command and whose params are its
 * arguments, all texts. What is no request ends the connection.
 */
import type { Json } from '../ovsdb/json.ts';
import { JsonStream } from '../ovsdb/rpc/framing.ts';
import { isRequest, readMessage } from '../ovsdb/rpc/message.ts';
import type { Acceptor, Door, Peer, Session } from '../stream.ts';
import { type Command, type Ctl, CtlError } from './command.ts';
import { COMMANDS } from './commands/all.ts';
import type { CtlHost } from './host.ts';

/** Wall time after which a connection that says nothing is ended, ms: ovs-appctl stays for one command. */
const IDLE_MS = 60_000;

export class Unixctl implements Acceptor {
  /** What commands look at; others that show or change the switch may use it, too. */
  readonly host: CtlHost;
  private readonly door: () => Door;
  private readonly commands: ReadonlyMap<string, Command>;

  /** `door`: the way into the world; asked for with each command. */
  constructor(host: CtlHost, door: () => Door) {
    this.host = host;
    this.door = door;
    this.commands = new Map(COMMANDS.map((c) => [c.name, c]));
  }

  /** Runs a command. Throws CtlError with the text of what is wrong. */
  run(method: string, params: readonly Json[]): string {
    const command = this.commands.get(method);
    if (command === undefined)
      throw new CtlError(`"${method}" is not a valid command (use "list-commands" to see a list of valid commands)`);
    if (params.length < command.minArgs)
      throw new CtlError(`"${method}" command requires at least ${command.minArgs} arguments`);
    if (params.length > command.maxArgs)
      throw new CtlError(`"${method}" command takes at most ${command.maxArgs} arguments`);
    const args: string[] = [];
    for (const param of params) {
      if (typeof param !== 'string') throw new CtlError(`"${method}" command has non-string argument`);
      args.push(param);
    }
    const ctl: Ctl = { host: this.host, door: this.door(), commands: this.commands };
    return command.run(args, ctl);
  }

  accept(peer: Peer): Session {
    const stream = new JsonStream();
    const encoder = new TextEncoder();
    let since = 0;
    let heard = true;
    return {
      receive: (bytes) => {
        heard = true;
        stream.feed(bytes, (json) => {
          const message = readMessage(json);
          if (!isRequest(message) || message.id === null) {
            peer.close();
            return false;
          }
          const id = JSON.stringify(message.id);
          peer.send(encoder.encode(this.reply(id, message.method, message.params)));
          return true;
        });
      },
      closed: () => {},
      tick: (nowMs) => {
        if (heard) since = nowMs;
        heard = false;
        if (nowMs - since > IDLE_MS) peer.close();
      },
    };
  }

  /** Texts end with a line's end, errors too. */
  private reply(id: string, method: string, params: readonly Json[]): string {
    try {
      return `{"id":${id},"result":${JSON.stringify(whole(this.run(method, params)))},"error":null}`;
    } catch (error) {
      if (!(error instanceof CtlError)) throw error;
      return `{"id":${id},"error":${JSON.stringify(whole(error.message))}}`;
    }
  }
}

/** Texts of the control socket end with a line's end. */
export const whole = (text: string): string => (text === '' || text.endsWith('\n') ? text : `${text}\n`);
