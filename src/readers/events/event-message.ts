/** The vhost-user messages among the events, decoded from the bytes that the world keeps of them. */
import type { RingReader } from '../../engine/event-ring.ts';
import { VHOST_USER_BACKEND_MESSAGE, VHOST_USER_MESSAGE } from '../../engine/events.ts';
import { VHOST_USER_MSG_MAX } from '../../machine/wire/vhost-user.ts';
import { type MessageFields, messageFields } from '../../machine/wire/vhost-user-fields.ts';

/** Whether events of the kind are a vhost-user message. */
export const isMessage = (kind: number): boolean => kind === VHOST_USER_MESSAGE || kind === VHOST_USER_BACKEND_MESSAGE;

/**
 * Name, flags and fields of the message that an event of the reader's current block stands for; `a` and `b` are the event's
 * columns. Null where its bytes are not held any more. Addresses and feature words are text in hexadecimal.
 */
export function messageOf(reader: RingReader, kind: number, a: number, b: number): MessageFields | null {
  if (b > VHOST_USER_MSG_MAX) return null;
  const bytes = new Uint8Array(b);
  if (!reader.readBytes(reader.bytePosition(a), b, bytes)) return null;
  return messageFields(bytes, kind === VHOST_USER_MESSAGE ? 'main' : 'backend');
}
