/**
 * A client of the event WebSocket for tests. Whatever the server sends is checked against asyncapi/asyncapi.json; binary
 * messages are read with the published example decoder and turned into the objects that the JSON form has.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Ajv, type ValidateFunction } from 'ajv';
import { WebSocket } from 'ws';
import { contextOf, decodeEvents, kindOf, placeOf } from '../../examples/event-decoder.ts';

export interface EventObject {
  readonly seq: number;
  readonly ns: number;
  readonly event: string;
  readonly place: string | null;
  readonly context: string | null;
  readonly frame: number | null;
  readonly [column: string]: number | string | null;
}
interface Entry {
  readonly id: number;
  readonly name: string;
}
interface Dictionary {
  readonly kinds: readonly (Entry & { readonly a: string; readonly b: string })[];
  readonly places: readonly Entry[];
  readonly contexts: readonly Entry[];
}
export interface EventMessage {
  readonly type: string;
  readonly id?: string;
  readonly topology: string;
  readonly protocol: string;
  readonly from: number;
  readonly to: number;
  readonly dropped: number;
  readonly oldest: number;
  readonly next: number;
  readonly position: number;
  readonly credit?: number;
  readonly virtualTimeSeconds: number;
  readonly reason: string;
  readonly events: readonly EventObject[];
  readonly dictionary: Dictionary;
  readonly places: readonly Entry[];
  readonly contexts: readonly Entry[];
  readonly problem: {
    readonly code: string;
    readonly detail: string;
    readonly errors?: readonly { pointer: string }[];
  };
}

const document = JSON.parse(readFileSync(new URL('../../asyncapi/asyncapi.json', import.meta.url), 'utf8')) as {
  components: { messages: Record<string, { name: string; payload: { $ref?: string } }> };
};
const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
ajv.addSchema(document, 'asyncapi.json');
const validators = new Map<string, ValidateFunction>();
for (const { name, payload } of Object.values(document.components.messages)) {
  if (payload.$ref !== undefined) validators.set(name, ajv.compile({ $ref: `asyncapi.json${payload.$ref}` }));
}

/** Fails where the AsyncAPI document does not describe the message. */
export function checkEventMessage(message: EventMessage): void {
  const validate = validators.get(message.type);
  assert.ok(validate, `asyncapi.json has no message '${message.type}'`);
  assert.ok(validate(message), `${message.type}: ${JSON.stringify(validate.errors?.slice(0, 3))}`);
}

/** Columns as the JSON form says them. */
export function eventsOf(bytes: Uint8Array, { kinds, places, contexts }: Dictionary): EventMessage {
  const columns = decodeEvents(bytes);
  const byId = new Map(kinds.map((kind) => [kind.id, kind]));
  const events = Array.from({ length: columns.count }, (_, i) => {
    const meta = columns.meta[i] ?? 0;
    const kind = byId.get(kindOf(meta));
    assert.ok(kind, 'a kind of the dictionary');
    const ns = columns.time[i] ?? Number.NaN;
    const event: Record<string, number | string | null> = {
      seq: columns.from + (columns.seq === null ? i : (columns.seq[i] ?? Number.NaN)),
      time: ns / 1e9,
      ns,
      event: kind.name,
      place: places[placeOf(meta)]?.name ?? null,
      context: contexts[contextOf(meta)]?.name ?? null,
      frame: columns.frame[i] === 0 ? null : (columns.frame[i] ?? null),
    };
    if (kind.a !== '') event[kind.a] = columns.a[i] ?? null;
    if (kind.b !== '') event[kind.b] = columns.b[i] ?? null;
    return event as unknown as EventObject;
  });
  return { type: 'events', from: columns.from, to: columns.to, events } as unknown as EventMessage;
}

export interface EventClientOptions {
  readonly headers?: Record<string, string>;
  readonly protocols?: readonly string[];
  /** Called for each message as it comes. */
  readonly onMessage?: (message: EventMessage) => void;
}

/** Keeps its messages and can wait for something to be true of them. */
export class EventClient {
  readonly socket: WebSocket;
  readonly messages: EventMessage[] = [];
  closed: { readonly code: number } | null = null;
  /** What was wrong with a message. */
  private failure: unknown = null;
  private changed = Promise.withResolvers<void>();

  constructor(url: string, { headers = {}, protocols = [], onMessage }: EventClientOptions = {}) {
    this.socket = new WebSocket(url, [...protocols], { headers });
    this.socket.on('message', (data, isBinary) => {
      try {
        const message = this.read(data as Buffer, isBinary);
        this.messages.push(message);
        onMessage?.(message);
      } catch (error) {
        this.failure ??= error;
      }
      this.wake();
    });
    this.socket.on('close', (code) => {
      this.closed = { code };
      this.wake();
    });
    this.socket.on('error', () => undefined);
  }

  private read(data: Buffer, isBinary: boolean): EventMessage {
    const message = isBinary ? eventsOf(data, this.dictionary) : (JSON.parse(String(data)) as EventMessage);
    checkEventMessage(message);
    return message;
  }
  private get dictionary(): Dictionary {
    const [hello] = this.messages;
    assert.ok(hello, 'hello comes first');
    const { kinds, places, contexts } = hello.dictionary;
    const gained = this.messages.filter((message) => message.type === 'names');
    return {
      kinds,
      places: places.concat(...gained.map((names) => names.places)),
      contexts: contexts.concat(...gained.map((names) => names.contexts)),
    };
  }
  private wake(): void {
    this.changed.resolve();
    this.changed = Promise.withResolvers();
  }

  /** Waits until `found` finds something. */
  async until<T>(found: () => T | undefined | null | false): Promise<T> {
    for (;;) {
      if (this.failure !== null) throw this.failure;
      const value = found();
      if (value) return value;
      await this.changed.promise;
    }
  }
  /** The first message of a type; with an id, the one that answers it. */
  message(type: string, id?: string): Promise<EventMessage> {
    return this.until(() => this.messages.find((m) => m.type === type && (id === undefined || m.id === id)));
  }
  say(message: object): void {
    this.socket.send(JSON.stringify(message));
  }
  /** Asks where the stream is; everything that was sent before the answer has arrived with it. */
  ping(id: string): Promise<EventMessage> {
    this.say({ type: 'ping', id });
    return this.message('pong', id);
  }
  get events(): readonly EventObject[] {
    return this.messages.flatMap((m) => (m.type === 'events' ? m.events : []));
  }
  get gaps(): readonly EventMessage[] {
    return this.messages.filter((m) => m.type === 'gap');
  }
  get dropped(): number {
    return this.gaps.reduce((sum, gap) => sum + gap.dropped, 0);
  }
}
