/**
 * The event WebSocket: batches of events as they are recorded. A client that reads too slowly is not sent more than its
 * buffer takes; what is overwritten meanwhile is told as a gap with the exact number. The engine never waits for it.
 */
import type { WebSocket } from 'ws';
import type { EventBatch, EventCursor } from '../readers/event-json.ts';
import { engineProblem } from './engine-problem.ts';
import { EngineFault } from './engine-thread.ts';
import { type EventRequest, gapJson, openCursor, POLL_MS } from './event-stream.ts';
import { Problem } from './problem.ts';
import { pause, type Stopping } from './stopping.ts';
import { turn } from './turns.ts';
import type { World } from './world.ts';

export const SUBPROTOCOL = 'ringside.v1+json';
const CLOSE_NORMAL = 1000;
const CLOSE_GOING_AWAY = 1001;
const PING_MS = 20_000;
/** A client whose buffer has not moved for this long is not there any more. */
const STALL_MS = 60_000;
const BATCH_EVENTS = 1000;
const BATCH_BYTES = 256 * 1024;

export interface SocketOptions {
  readonly topology: string;
  readonly world: World;
  readonly query: EventRequest;
  /** Bytes in the send buffer above which nothing more is sent. */
  readonly highWater: number;
  readonly stopping: Stopping;
  /** Checks a message against the schema `Subscribe`; throws a problem. */
  readonly parse: (text: string) => EventRequest;
}

/** Serves one client until it, the world or the server ends. Never rejects. */
export async function serveEvents(socket: WebSocket, options: SocketOptions): Promise<void> {
  const { world, stopping } = options;
  const closed = new AbortController();
  socket.on('close', () => closed.abort());
  const reader = world.counters;
  let cursor = openCursor(world, options.query);
  send(socket, { type: 'hello', topology: options.topology, oldest: reader.tail(), next: reader.head() });
  socket.on('message', (data) => {
    try {
      const request = options.parse(String(data));
      cursor = openCursor(world, request, cursor.position);
    } catch (error) {
      send(socket, { type: 'error', problem: problemOf(error).document('') });
    }
  });
  const ping = setInterval(() => socket.ping(), PING_MS);
  try {
    while (!closed.signal.aborted && !stopping.begun) {
      const over = world.over;
      const batch = (await drained(socket, options.highWater, closed.signal, stopping)) ? nextBatch(cursor) : null;
      if (batch !== null) {
        sendBatch(socket, batch);
        await turn();
      } else if (over) {
        break;
      } else {
        await pause(POLL_MS, closed.signal, stopping.signal);
      }
    }
  } finally {
    clearInterval(ping);
  }
  if (stopping.begun) socket.close(CLOSE_GOING_AWAY, 'the server stops');
  else {
    send(socket, { type: 'end', reason: world.failed ?? 'the topology was deleted or rebuilt' });
    socket.close(CLOSE_NORMAL);
  }
}

function nextBatch(cursor: EventCursor): EventBatch | null {
  return cursor.next(BATCH_EVENTS, BATCH_BYTES);
}

/** Waits until the send buffer is below the mark. False where the socket ended instead; one that is stuck is ended here. */
async function drained(
  socket: WebSocket,
  highWater: number,
  closed: AbortSignal,
  stopping: Stopping,
): Promise<boolean> {
  let before = socket.bufferedAmount;
  let since = performance.now();
  while (socket.bufferedAmount > highWater) {
    await pause(POLL_MS, closed, stopping.signal);
    if (closed.aborted || stopping.begun) return false;
    if (socket.bufferedAmount !== before) {
      before = socket.bufferedAmount;
      since = performance.now();
    } else if (performance.now() - since > STALL_MS) {
      socket.terminate();
      return false;
    }
  }
  return true;
}

function sendBatch(socket: WebSocket, batch: EventBatch): void {
  if (batch.dropped > 0) socket.send(gapJson(batch.from, batch.dropped));
  if (batch.events === 0) return;
  // Lines of NDJSON, each ended by a newline, become the elements of an array.
  const events = Buffer.from(batch.lines.buffer, batch.lines.byteOffset, batch.lines.byteLength - 1);
  const list = events.toString('utf8').replaceAll('\n', ',');
  socket.send(`{"type":"events","from":${batch.from + batch.dropped},"to":${batch.to},"events":[${list}]}`);
}

function send(socket: WebSocket, message: object): void {
  if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(message));
}

function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof EngineFault) return engineProblem(error);
  return new Problem('RINGSIDE_E_REQUEST', error instanceof Error ? error.message : String(error));
}
