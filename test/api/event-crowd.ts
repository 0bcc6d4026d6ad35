/**
 * Many clients of one event WebSocket, in a process of their own: `node event-crowd.ts <url> <clients> <end> <silent>`. Each
 * begins with `hello`; when all have it, `ready` is printed. Then they read until they know about all events before `end`,
 * and one line of JSON says what each of them got. The first `silent` ones read nothing until the others are done.
 */
import { WebSocket } from 'ws';
import { decodeEvents } from '../../examples/event-decoder.ts';

const [url = '', clients = '1', end = '0', silent = '0'] = process.argv.slice(2);
const last = Number(end);

export interface CrowdMember {
  /** Events received, events missed, and the sum of the sequence numbers received. */
  events: number;
  dropped: number;
  sum: number;
  doneMs: number;
}

function member(i: number, ready: () => void): { socket: WebSocket; done: Promise<CrowdMember> } {
  // Half of them in each form.
  const socket = new WebSocket(url, [i % 2 === 0 ? 'ringside.v1+json' : 'ringside.v1+binary']);
  const { promise, resolve, reject } = Promise.withResolvers<CrowdMember>();
  const got = { events: 0, dropped: 0, sum: 0 };
  let at = -1;
  const account = (from: number, to: number): void => {
    if (from !== at) reject(new Error(`client ${i}: ${from} after ${at}`));
    at = to;
    if (at >= last) {
      resolve({ ...got, doneMs: performance.now() });
      socket.close();
    }
  };
  socket.on('error', reject);
  socket.on('message', (data: Buffer, isBinary) => {
    if (isBinary) {
      const { from, to, count } = decodeEvents(data);
      got.events += count;
      for (let seq = from; seq < to; seq++) got.sum += seq;
      account(from, to);
      return;
    }
    const message = JSON.parse(String(data));
    if (message.type === 'hello') {
      at = message.next;
      ready();
    } else if (message.type === 'gap') {
      got.dropped += message.dropped;
      account(message.from, message.to);
    } else if (message.type === 'events') {
      got.events += message.events.length;
      for (const { seq } of message.events) got.sum += seq;
      account(message.from, message.to);
    }
  });
  return { socket, done: promise };
}

let waiting = Number(clients);
const all: { socket: WebSocket; done: Promise<CrowdMember> }[] = [];
const everybody = Promise.withResolvers<void>();
for (let i = 0; i < Number(clients); i++) {
  all.push(
    member(i, () => {
      if (--waiting === 0) everybody.resolve();
    }),
  );
}
await everybody.promise;
const quiet = all.slice(0, Number(silent));
for (const { socket } of quiet) socket.pause();
console.log('ready');
await Promise.all(all.slice(quiet.length).map(({ done }) => done));
for (const { socket } of quiet) socket.resume();
console.log(JSON.stringify(await Promise.all(all.map(({ done }) => done))));
// Whoever started this process ends it, once it has read the line.
setInterval(() => undefined, 1000);
