/**
 * What the two subprotocols of the event WebSocket have in common: their names, which of them a client gets, the greeting,
 * and what a client may say. event-socket.ts serves a client; the messages' schemas are in schemas/event.ts.
 */
import type { WorldCatalog } from '../../engine/catalog.ts';
import { EVENT_KINDS } from '../../engine/events.ts';
import { NAME_A, NAME_B } from '../../readers/events/event-columns.ts';
import { Problem } from '../problem.ts';
import {
  type CreditMessage,
  EventCredit,
  EventPing,
  EventSubscribe,
  EventUnsubscribe,
  type PingMessage,
  type SubscribeMessage,
  type UnsubscribeMessage,
} from '../schemas/event.ts';
import { bodyValidator } from '../validation.ts';
import { VERSION } from '../version.ts';
import { BATCH_BYTES, batchEvents, type EventForm, type EventSource } from './event-source.ts';

const FORMS: Readonly<Record<string, EventForm>> = { 'ringside.v1+json': 'message', 'ringside.v1+binary': 'binary' };
export const SUBPROTOCOLS: readonly string[] = Object.keys(FORMS);
/** Bytes of one message of a client. */
export const MESSAGE_BYTES = 64 * 1024;
export const PING_MS = 20_000;
/** A client that has neither answered a ping nor taken anything for this long is not there any more. */
export const STALL_MS = 60_000;

/** The first subprotocol of the client's list that there is; false where it offers none of ours. */
export function chooseSubprotocol(offered: Iterable<string>): string | false {
  for (const name of offered) if (FORMS[name] !== undefined) return name;
  return false;
}

/** Before the upgrade: a client that offers subprotocols, but none of ours, could not be answered in one. */
export function checkSubprotocols(header: string | undefined): void {
  if (header === undefined) return;
  const offered = header.split(',').map((name) => name.trim());
  if (chooseSubprotocol(offered) !== false) return;
  const detail = `none of the offered subprotocols is known: ${offered.join(', ').slice(0, 200)}`;
  const fault = { pointer: 'headers/sec-websocket-protocol', detail, expected: SUBPROTOCOLS.join(' or ') };
  throw new Problem('RINGSIDE_E_REQUEST', `${detail}; expected ${fault.expected}`, { errors: [fault] });
}

/** A client that offers no subprotocol gets JSON. */
export function formOf(subprotocol: string): EventForm {
  return FORMS[subprotocol] ?? 'message';
}

// ---- what the server says -----------------------------------------------------------------------------------------
export function hello(topology: string, source: EventSource, form: EventForm, socketBuffer: number): object {
  return {
    type: 'hello',
    protocol: form === 'binary' ? 'ringside.v1+binary' : 'ringside.v1+json',
    server: VERSION,
    topology,
    ...heads(source),
    limits: {
      batchEvents: batchEvents(form),
      batchBytes: form === 'binary' ? null : BATCH_BYTES,
      bufferBytes: socketBuffer,
      messageBytes: MESSAGE_BYTES,
      pingSeconds: PING_MS / 1000,
      stallSeconds: STALL_MS / 1000,
    },
    dictionary: {
      kinds: EVENT_KINDS.map(({ id, name, role, text }) => ({ id, name, role, a: NAME_A[id], b: NAME_B[id], text })),
      ...namesOf(source.world.catalog),
    },
  };
}

/** Names of the places and contexts from these numbers on. */
export function namesOf({ places, contexts }: WorldCatalog, place = 0, context = 0): object {
  return {
    places: places.slice(place).map(({ id, name, type }) => ({ id, name, type })),
    contexts: contexts.slice(context).map(({ id, name, kind }) => ({ id, name, kind })),
  };
}

/** Where the world's record begins and ends, and its time. */
export function heads(source: EventSource): { oldest: number; next: number; virtualTimeSeconds: number } {
  return { oldest: source.oldest, next: source.next, virtualTimeSeconds: source.virtualTimeSeconds };
}

export function gapJson(from: number, dropped: number): string {
  return JSON.stringify({ type: 'gap', from, to: from + dropped, dropped });
}

// ---- what a client says -------------------------------------------------------------------------------------------
export type ClientMessage = SubscribeMessage | UnsubscribeMessage | CreditMessage | PingMessage;

const checks: Readonly<Record<string, (value: unknown) => ClientMessage>> = {
  subscribe: bodyValidator<SubscribeMessage>(EventSubscribe),
  unsubscribe: bodyValidator<UnsubscribeMessage>(EventUnsubscribe),
  credit: bodyValidator<CreditMessage>(EventCredit),
  ping: bodyValidator<PingMessage>(EventPing),
};

/** A message's object and its id, as far as they can be made out: the id goes into the answer, also where that is an error. */
export function openMessage(data: string): { readonly value: unknown; readonly id: string | undefined } {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch (error) {
    throw new Problem(
      'RINGSIDE_E_SYNTAX',
      `The message is not JSON: ${error instanceof Error ? error.message : error}`,
    );
  }
  const id = (value as { id?: unknown } | null)?.id;
  return { value, id: typeof id === 'string' ? id.slice(0, 128) : undefined };
}

/** Throws a problem that names the field. */
export function checkMessage(value: unknown): ClientMessage {
  const type = (value as { type?: unknown } | null)?.type;
  const check = typeof type === 'string' && Object.hasOwn(checks, type) ? checks[type] : undefined;
  if (check !== undefined) return check(value);
  const detail = 'is not a message that a client can send';
  const fault = { pointer: '/type', detail, expected: Object.keys(checks).join(', ') };
  throw new Problem('RINGSIDE_E_VALIDATION', `The message has a fault at '/type': ${detail}`, { errors: [fault] });
}
