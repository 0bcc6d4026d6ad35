/** A client of the event WebSocket over minutes, with a clock of our own: who is alive is kept, who is not is cut off. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, test, vi } from 'vitest';
import { SCHED_SLEEP } from '../../src/engine/events.ts';
import { type SocketOptions, type Subscription, serveEvents } from '../../src/server/events/event-socket.ts';
import { EventSource } from '../../src/server/events/event-source.ts';
import { eventChunks, watchStall } from '../../src/server/events/event-stream.ts';
import { Problem } from '../../src/server/problem.ts';
import { Stopping } from '../../src/server/stopping.ts';
import { FakeWorld } from '../unit/readers/fake-world.ts';
import { checkEventMessage, type EventMessage } from './event-client.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** Lets so much time pass, and everything happen that is due. */
async function pass(seconds: number): Promise<void> {
  for (let i = 0; i < seconds; i++) {
    await vi.advanceTimersByTimeAsync(1000);
    for (let turns = 0; turns < 5; turns++) await new Promise(setImmediate);
  }
}

class FakeSocket extends EventEmitter {
  readonly OPEN = 1;
  readyState = 1;
  protocol = 'ringside.v1+json';
  bufferedAmount = 0;
  pings = 0;
  /** Whether it answers pings. */
  answers = true;
  readonly messages: EventMessage[] = [];
  /** What is called when a message has left the buffer; null where it leaves at once. */
  leaving: (() => void)[] | null = null;
  closed: number | 'terminated' | null = null;

  send(data: string | Uint8Array, _options?: object, done?: () => void): void {
    const message = JSON.parse(Buffer.from(data as string).toString()) as EventMessage;
    checkEventMessage(message);
    this.messages.push(message);
    this.left(done);
  }
  ping(_data?: undefined, _mask?: undefined, done?: () => void): void {
    this.pings++;
    this.left(done);
    if (this.answers) this.emit('pong');
  }
  close(code: number): void {
    this.leave(code);
  }
  terminate(): void {
    this.leave('terminated');
  }
  private left(done: (() => void) | undefined): void {
    if (this.leaving === null) done?.();
    else if (done !== undefined) this.leaving.push(done);
  }
  /** Everything in the buffer goes out. */
  drain(): void {
    this.bufferedAmount = 0;
    for (const done of this.leaving?.splice(0) ?? []) done();
  }
  say(message: object): void {
    this.emit('message', JSON.stringify(message), false);
  }
  private leave(how: number | 'terminated'): void {
    this.closed ??= how;
    this.readyState = 3;
    this.emit('close');
  }
  get events(): number {
    return this.messages.reduce((sum, message) => sum + (message.type === 'events' ? message.events.length : 0), 0);
  }
}

/** A world that a test writes by hand. */
class HandWorld extends FakeWorld {
  readonly news = new EventEmitter<{ end: [] }>();
  ended = false;
  released = 0;
  /** Holds that were taken; and how many there are. */
  taken = 0;
  holds = 16;
  readonly asWorld = this.worldOf();

  private worldOf(): SocketOptions['world'] {
    const { reader, news } = this;
    const ended = (): boolean => this.ended;
    return {
      counters: reader,
      catalog: reader.catalog,
      openReader: () => reader,
      events: news,
      failed: null,
      get over() {
        return ended();
      },
      takeHold: () => {
        if (this.taken === this.holds) throw new Problem('RINGSIDE_E_TOO_MANY', 'all taken');
        this.taken++;
        return { advance: () => undefined, release: () => void this.released++ };
      },
    } as unknown as SocketOptions['world'];
  }
  record(count: number): void {
    for (let i = 0; i < count; i++) this.event(0, i, SCHED_SLEEP, 0);
    super.publish();
  }
  end(): void {
    this.ended = true;
    this.news.emit('end');
  }
}

async function serve(
  query: Subscription = {},
  world = new HandWorld(),
): Promise<{ socket: FakeSocket; world: HandWorld; served: Promise<void> }> {
  const socket = new FakeSocket();
  const options = { topology: 't1', query, highWater: 1000, stopping: new Stopping() };
  const served = serveEvents(socket, { ...options, world: world.asWorld });
  await pass(0);
  return { socket, world, served };
}

test('a client that answers pings is kept, however long nothing happens', async () => {
  const { socket, world, served } = await serve();
  await pass(600);
  assert.equal(socket.pings, 30);
  assert.equal(socket.closed, null);
  world.record(5);
  await pass(1);
  assert.equal(socket.events, 5);
  world.end();
  await served;
  assert.equal(socket.closed, 1000);
});

test('a client that gives no sign of life is cut off, and virtual time no longer waits for it', async () => {
  const { socket, world, served } = await serve({ slow: 'block' });
  socket.answers = false;
  await pass(60);
  assert.equal(socket.closed, null);
  await pass(21);
  assert.equal(socket.closed, 'terminated');
  await served;
  assert.equal(world.released, 1);
});

test('what a client says while its socket closes takes no hold', async () => {
  const world = new HandWorld();
  world.holds = 0;
  const { socket, served } = await serve({ slow: 'block' }, world);
  await served;
  assert.equal(socket.messages.at(-1)?.type, 'error');
  world.holds = 16;
  socket.say({ type: 'subscribe', slow: 'block' });
  assert.equal(world.taken, 0);
});

test('a client that reads slowly is alive as long as its buffer moves', async () => {
  const { socket } = await serve();
  socket.answers = false;
  for (let i = 0; i < 10; i++) {
    socket.bufferedAmount = 5000 - i;
    await pass(20);
    assert.equal(socket.closed, null);
  }
  await pass(81);
  assert.equal(socket.closed, 'terminated');
});

test('while the buffer is above the mark nothing is sent; afterwards everything is', async () => {
  const { socket, world } = await serve();
  socket.bufferedAmount = 1001;
  world.record(100);
  await pass(1);
  assert.equal(socket.events, 0);
  socket.bufferedAmount = 0;
  world.record(1);
  await pass(1);
  assert.equal(socket.events, 101);
});

test.for(['answer', 'ping'] as const)('what filled the buffer and has gone out holds up nothing: %s', async (what) => {
  const { socket, world } = await serve();
  socket.leaving = [];
  if (what === 'answer') socket.say({ type: 'ping' });
  else await pass(20);
  socket.bufferedAmount = 1001;
  world.record(100);
  await pass(1);
  assert.equal(socket.events, 0);
  socket.drain();
  // Nothing else happens: no news, no message of the client.
  await pass(1);
  assert.equal(socket.events, 100);
});

test('a world that ends while a client has no credit waits a little for more of it', async () => {
  const { socket, world, served } = await serve({ credit: 2 });
  world.record(10);
  await pass(1);
  world.end();
  await pass(3);
  assert.deepEqual([socket.events, socket.closed], [2, null]);
  socket.say({ type: 'credit', add: 3 });
  await pass(1);
  assert.equal(socket.events, 5);
  await pass(3);
  await served;
  const end = socket.messages.at(-1);
  assert.deepEqual([end?.type, end?.position, end?.next], ['end', 5, 10]);
});

test('a world that ends is told to the last event', async () => {
  const { socket, world, served } = await serve();
  world.record(5000);
  world.end();
  await served;
  assert.equal(socket.events, 5000);
  assert.equal(socket.messages.at(-1)?.type, 'end');
});

test('one who reads a long history does not hold up one who follows, and neither do many', async () => {
  const world = new HandWorld({ eventCapacity: 1 << 18 });
  world.record(60_000);
  // Each with a filter of its own, so that nobody profits from what was made for another.
  const readers = await Promise.all(
    Array.from({ length: 5 }, (_, i) => serve({ after: -1, time: `0ns-${1_000_000 + i}ns` }, world)),
  );
  const follower = await serve({}, world);
  const before = readers.map(({ socket }) => socket.events);
  world.record(3);
  await vi.advanceTimersByTimeAsync(20);
  // One step for each of the others at most.
  for (let turns = 0; turns < 8; turns++) await new Promise(setImmediate);
  assert.equal(follower.socket.events, 3);
  for (const [i, { socket }] of readers.entries()) {
    assert.ok(socket.events > (before[i] ?? 0), 'everybody goes on');
    assert.ok(socket.events < 60_000, 'nobody was through before');
  }
  world.end();
  await Promise.all([...readers, follower].map(({ served }) => served));
  for (const { socket } of readers) assert.equal(socket.events, 60_003);
});

test('server-sent: a silent stream shows that it is alive, and how far it has come', async () => {
  const world = new HandWorld();
  const source = EventSource.of(world.asWorld);
  const place = source.open('server-sent', { events: 'dp.miss' }, 0);
  const gone = new AbortController();
  const options = { form: 'server-sent', limit: 1000, follow: true, hold: null } as const;
  const texts: string[] = [];
  const reading = (async () => {
    for await (const chunk of eventChunks(source, place, options, new Stopping(), gone.signal)) {
      if (chunk.length > 0) texts.push(Buffer.from(chunk).toString());
    }
  })();
  await pass(31);
  assert.deepEqual(texts, ['retry: 1000\n\n', ': alive\n\n', ': alive\n\n']);
  // What the filter leaves out is not looked at again by one who comes back.
  world.record(100);
  await pass(16);
  assert.deepEqual(texts.slice(3), [': alive\nid: 99\n\n']);
  for (let i = 0; i < 16; i++) {
    world.record(10);
    await pass(1);
  }
  assert.equal(texts.length, 5);
  assert.match(texts[4] ?? '', /^: alive\nid: 2\d\d\n\n$/);
  gone.abort();
  await reading;
  assert.equal(texts.length, 5);
});

test('NDJSON: a silent stream sleeps', async () => {
  const world = new HandWorld();
  const source = EventSource.of(world.asWorld);
  const place = source.open('lines', {}, 0);
  const gone = new AbortController();
  const options = { form: 'lines', limit: 1000, follow: true, hold: null } as const;
  const next = vi.spyOn(place, 'next');
  const chunks: Uint8Array[] = [];
  const reading = (async () => {
    for await (const chunk of eventChunks(source, place, options, new Stopping(), gone.signal)) chunks.push(chunk);
  })();
  await pass(60);
  assert.ok(next.mock.calls.length < 4, `looked ${next.mock.calls.length} times`);
  world.record(1);
  await pass(1);
  assert.equal(chunks.length, 1);
  gone.abort();
  await reading;
});

test('over HTTP, too, virtual time waits for a silent client for a minute at most', async () => {
  const world = new HandWorld();
  const source = EventSource.of(world.asWorld);
  const place = source.open('lines', {}, 0);
  let cuts = 0;
  const stop = watchStall(source, place, () => cuts++);
  // Nothing to take is no fault of the client.
  await pass(200);
  assert.equal(cuts, 0);
  world.record(2000);
  await pass(40);
  place.next();
  await pass(79);
  assert.equal(cuts, 0);
  await pass(21);
  assert.equal(cuts, 1);
  stop();
  await pass(100);
  assert.equal(cuts, 1);
});
