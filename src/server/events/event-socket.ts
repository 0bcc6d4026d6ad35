/**
 * The event WebSocket: one client, one topology, subprotocol `ringside.v1+json` or `ringside.v1+binary`. The server says
 * `hello`, then sends batches of events; the client may change the filter, move, stop and grant credit at any time. A client
 * that does not read makes nobody wait, unless it asked for `slow=block`: above a mark of its send buffer nothing more is
 * read for it, and what the ring loses meanwhile is told in a `gap` message with its number.
 */
import type { Hold } from '../../engine/hold.ts';
import type { EventBatch } from '../../readers/events/event-cursor.ts';
import type { EventFilterQuery } from '../../readers/events/event-filter.ts';
import { engineProblem } from '../engine-problem.ts';
import { EngineFault } from '../engine-thread.ts';
import { Problem } from '../problem.ts';
import type { Stopping } from '../stopping.ts';
import { turn } from '../turns.ts';
import type { World } from '../world.ts';
import {
  type ClientMessage,
  checkMessage,
  formOf,
  gapJson,
  heads,
  hello,
  namesOf,
  openMessage,
  PING_MS,
  STALL_MS,
} from './event-protocol.ts';
import { type EventForm, type EventPlace, EventSource, HELD_POLL_MS } from './event-source.ts';
import { Waiter } from './event-waiter.ts';

/** What this server uses of a `ws` socket. */
interface WebSocket {
  readonly OPEN: number;
  readonly readyState: number;
  readonly protocol: string;
  readonly bufferedAmount: number;
  on(event: 'message', listener: (data: unknown, isBinary: boolean) => void): void;
  on(event: 'close' | 'pong', listener: () => void): void;
  send(data: string | Uint8Array, options: { binary: boolean }, done: () => void): void;
  ping(data: undefined, mask: undefined, done: () => void): void;
  close(code: number, reason?: string): void;
  terminate(): void;
}

const CLOSE_NORMAL = 1000;
const CLOSE_GOING_AWAY = 1001;
/** What answers to a client's messages may take beyond the mark, before it is cut off: it asks and does not read. */
const ANSWER_BYTES = 1 << 20;
/** How long a client whose credit is used up may take to grant more when the world has ended. */
const GRACE_MS = 5000;

/** What the address and `subscribe` messages ask for alike. */
export interface Subscription extends EventFilterQuery {
  readonly after?: number;
  readonly credit?: number;
  readonly slow?: 'drop' | 'block';
}

export interface SocketOptions {
  readonly topology: string;
  readonly world: World;
  readonly query: Subscription;
  /** Bytes in the send buffer above which nothing more is sent. */
  readonly highWater: number;
  readonly stopping: Stopping;
}

/** Serves one client until it, the world or the server ends. Never rejects. */
export async function serveEvents(socket: WebSocket, options: SocketOptions): Promise<void> {
  const session = new Session(socket, options);
  try {
    await session.run();
  } catch (error) {
    // The address was checked before the upgrade; what has changed since (all holds taken, world gone) ends the stream.
    session.refuse(error);
  }
}

class Session {
  private readonly socket: WebSocket;
  private readonly options: SocketOptions;
  private readonly source: EventSource;
  private readonly form: EventForm;
  private place: EventPlace;
  /** Events that may still be sent. */
  private credit = Number.POSITIVE_INFINITY;
  private subscribed = true;
  private hold: Hold | null = null;
  /** Nothing is sent any more; what the client still says while the socket closes is not listened to. */
  private finished = false;
  private readonly waiter: Waiter;
  /** How many places and contexts the client has names of. */
  private named = { places: 0, contexts: 0 };
  /** When the client last gave a sign of life, and what its send buffer held then. */
  private sign = performance.now();
  private buffered = 0;

  constructor(socket: WebSocket, options: SocketOptions) {
    this.socket = socket;
    this.options = options;
    this.source = EventSource.of(options.world);
    this.form = formOf(socket.protocol);
    const { after } = options.query;
    this.place = this.source.open(this.form, options.query, after === undefined ? undefined : after + 1);
    this.waiter = new Waiter(this.source, options.stopping.signal);
    socket.on('close', this.waiter.wake);
    socket.on('pong', () => {
      this.sign = performance.now();
    });
    socket.on('message', (data) => this.hear(String(data)));
  }

  async run(): Promise<void> {
    const { world, stopping } = this.options;
    const pulse = setInterval(() => this.beat(), PING_MS);
    let grace: NodeJS.Timeout | null = null;
    let impatient = false;
    try {
      this.named = counts(world);
      this.say(hello(this.options.topology, this.source, this.form, this.options.highWater));
      this.admit(this.options.query);
      while (this.open && !stopping.begun) {
        const { over } = world;
        const batch = this.ready ? this.place.next(this.credit) : null;
        if (batch !== null) {
          this.sayNames();
          this.send(batch);
          await turn();
          continue;
        }
        // Of a world that has ended everything is sent, as long as the client takes it.
        if (over && (this.place.position >= this.source.next || !this.subscribed)) break;
        if (impatient && this.credit <= 0) break;
        if (over && grace === null) {
          grace = setTimeout(() => {
            impatient = true;
            this.waiter.wake();
          }, GRACE_MS);
        }
        await this.waiter.sleep(this.hold === null ? undefined : HELD_POLL_MS);
        // All clients of a world are woken at once; each has a turn of its own.
        await turn();
      }
      this.end();
    } finally {
      this.finished = true;
      this.waiter.close();
      clearInterval(pulse);
      if (grace !== null) clearTimeout(grace);
      this.hold?.release();
    }
  }

  refuse(error: unknown): void {
    this.say({ type: 'error', problem: this.problemOf(error) });
    this.socket.close(CLOSE_NORMAL);
  }

  private end(): void {
    if (!this.open) return;
    if (this.options.stopping.begun) {
      this.socket.close(CLOSE_GOING_AWAY, 'the server stops');
      return;
    }
    const reason = this.options.world.failed ?? 'the topology was deleted or rebuilt';
    this.say({ type: 'end', reason, position: this.place.position, next: this.source.next });
    this.socket.close(CLOSE_NORMAL);
  }

  // ---- sending ------------------------------------------------------------------------------------------------------
  private get open(): boolean {
    return this.socket.readyState === this.socket.OPEN;
  }
  private get ready(): boolean {
    return this.subscribed && this.credit > 0 && this.socket.bufferedAmount <= this.options.highWater;
  }

  private send(batch: EventBatch): void {
    if (batch.dropped > 0) this.text(gapJson(batch.from, batch.dropped));
    if (batch.events > 0) {
      this.socket.send(batch.bytes, { binary: this.form === 'binary' }, this.waiter.wake);
      this.credit -= batch.events;
    }
    this.hold?.advance(this.place.position);
  }

  /** What the world has gained, before an event names it. */
  private sayNames(): void {
    const { world } = this.options;
    const now = counts(world);
    const { places, contexts } = this.named;
    if (now.places === places && now.contexts === contexts) return;
    this.say({ type: 'names', ...namesOf(world.catalog, places, contexts) });
    this.named = now;
  }

  private say(message: object): void {
    if (!this.open) return;
    if (this.socket.bufferedAmount > 2 * this.options.highWater + ANSWER_BYTES) this.socket.terminate();
    else this.text(JSON.stringify(message));
  }
  /** Whatever goes out may have filled the buffer, so whatever has gone out is news. */
  private text(data: string): void {
    this.socket.send(data, { binary: false }, this.waiter.wake);
  }

  // ---- liveness ------------------------------------------------------------------------------------------------------
  /** Pings, and cuts off a client that is not there any more. */
  private beat(): void {
    const { bufferedAmount } = this.socket;
    if (bufferedAmount !== this.buffered) {
      this.buffered = bufferedAmount;
      this.sign = performance.now();
    }
    if (performance.now() - this.sign > STALL_MS) this.socket.terminate();
    else if (this.open) this.socket.ping(undefined, undefined, this.waiter.wake);
  }

  // ---- hearing ------------------------------------------------------------------------------------------------------
  private hear(data: string): void {
    if (this.finished) return;
    this.sign = performance.now();
    let id: string | undefined;
    try {
      const message = openMessage(data);
      id = message.id;
      this.obey(checkMessage(message.value));
    } catch (error) {
      this.say({ type: 'error', ...given({ id }), problem: this.problemOf(error) });
    }
    this.waiter.wake();
  }

  private obey(message: ClientMessage): void {
    const { id } = message;
    switch (message.type) {
      case 'subscribe': {
        const start = message.after === undefined ? this.place.position : message.after + 1;
        const place = this.source.open(this.form, message, start, '');
        this.admit(message, place);
        this.say({ type: 'subscribed', ...given({ id }), position: start, ...heads(this.source) });
        return;
      }
      case 'unsubscribe':
        this.subscribed = false;
        this.hold?.release();
        this.hold = null;
        this.say({ type: 'unsubscribed', ...given({ id }), position: this.place.position });
        return;
      case 'credit':
        if (!(this.subscribed && this.credit < Number.POSITIVE_INFINITY)) {
          throw new Problem('RINGSIDE_E_CONFLICT', 'There is no subscription with credit to add to');
        }
        this.credit = Math.min(this.credit + message.add, Number.MAX_SAFE_INTEGER);
        return;
      case 'ping': {
        const credit = this.credit === Number.POSITIVE_INFINITY ? undefined : this.credit;
        this.say({ type: 'pong', ...given({ id, credit }), position: this.place.position, ...heads(this.source) });
      }
    }
  }

  /** Takes a subscription as the current one. Throws, and changes nothing, where there is no hold for it. */
  private admit(query: Subscription, place = this.place): void {
    const { world } = this.options;
    const start = Math.max(place.position, this.source.oldest);
    if (query.slow !== 'block') {
      this.hold?.release();
      this.hold = null;
    } else if (this.hold === null) this.hold = world.takeHold(start);
    else this.hold.advance(start);
    this.place = place;
    this.credit = query.credit ?? Number.POSITIVE_INFINITY;
    this.subscribed = true;
  }

  private problemOf(error: unknown): object {
    const instance = `/v1/topologies/${this.options.topology}/events`;
    if (error instanceof Problem) return error.document(instance);
    if (error instanceof EngineFault) return engineProblem(error).document(instance);
    console.error(error);
    return new Problem('RINGSIDE_E_INTERNAL', 'The server made a mistake; its log has the details').document(instance);
  }
}

function counts({ catalog }: World): { places: number; contexts: number } {
  return { places: catalog.places.length, contexts: catalog.contexts.length };
}

/** Without what is undefined. */
function given(fields: Readonly<Record<string, unknown>>): object {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
