/** Programs behind sockets: when they sleep, what waking and reading takes, clients that think, wait and give up. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { NEVER } from '../../../../../src/engine/timeline.ts';
import {
  Requester,
  Responder,
  TransactionAccount,
  type TransactionTerms,
} from '../../../../../src/machine/guest/traffic/request-response.ts';
import { StreamReader } from '../../../../../src/machine/guest/traffic/stream-reader.ts';
import { RunLedger } from '../../../../../src/machine/packet/run-ledger.ts';
import { Bare } from '../../packet/bare-services.ts';

const SECOND = 1e9;
const WAKE = 1000;
const READ = 500;
const PLACE = { base: 0, localPort: 5001 };
const services = () =>
  new Bare(8, { thread_context_switch: WAKE, guest_recvmsg: READ, copy_per_byte_kernel: 0.25 }).services;

class Socket {
  readonly sent: number[] = [];
  readonly tags: number[] = [];
  /** Of the message that is read; -1: a stream. */
  tag = -1;
  finished = 0;
  send(bytes: number, tag: number): void {
    this.sent.push(bytes);
    this.tags.push(tag);
  }
  readTag(): number {
    return this.tag;
  }
  finish(): void {
    this.finished++;
  }
}
function client(terms: Partial<TransactionTerms>, loses = false) {
  const socket = new Socket();
  const all = { requestBytes: 10, responseBytes: 20, count: 100, until: NEVER, outstanding: 1, thinkNs: 0, ...terms };
  const account = new TransactionAccount(all, new RunLedger(1, 0, 0));
  const requester = new Requester(services(), account, socket, loses);
  /** It does what it has to at `now`; returns what that took. */
  const turn = (now: number): number => {
    const ns = requester.work(now);
    if (ns < 0) return ns;
    requester.begin(PLACE, false);
    requester.worked(PLACE, now + ns);
    return ns;
  };
  return { socket, account, requester, turn };
}

describe('a server', () => {
  test('sleeps until a request has come; answers each; what comes meanwhile finds it awake', () => {
    const socket = new Socket();
    const { terms } = client({}).account;
    const server = new Responder(services(), terms, socket);
    server.opened();
    assert.equal(server.work(0), -1);
    server.arrived(1);
    // 10 bytes are copied: 2 ns
    assert.equal(server.work(5), WAKE + READ + 2);
    server.begin(PLACE, false);
    server.arrived(1);
    server.worked(PLACE, 10);
    assert.deepEqual(socket.sent, [20]);
    assert.equal(server.work(10), READ + 2);
    server.begin(PLACE, false);
    server.worked(PLACE, 20);
    assert.deepEqual(socket.sent, [20, 20]);
    assert.equal(server.work(20), -1);
    server.arrived(1);
    assert.equal(server.work(30), WAKE + READ + 2);
  });
});

describe('a client', () => {
  test('asks when the socket opens, and again when it has read the response', () => {
    const { socket, account, requester, turn } = client({ count: 2 });
    requester.opened(100);
    assert.deepEqual(socket.sent, [10]);
    assert.equal(turn(200), -1);
    requester.arrived(1);
    assert.equal(turn(1000), WAKE + READ + 5);
    assert.deepEqual([socket.sent.length, account.completed, account.lastNs], [2, 1, 1000 + WAKE + READ + 5]);
    assert.equal(account.mean, 1000 + WAKE + READ + 5 - 100);
    requester.arrived(1);
    turn(5000);
    assert.deepEqual([socket.sent.length, socket.finished], [2, 1]);
  });

  test('several at a time: each response is that of the oldest request', () => {
    const { socket, account, requester, turn } = client({ count: 5, outstanding: 3 });
    requester.opened(0);
    assert.equal(socket.sent.length, 3);
    requester.arrived(3);
    turn(1000);
    turn(2000);
    turn(3000);
    assert.deepEqual([socket.sent.length, account.completed, socket.finished], [5, 3, 0]);
    requester.arrived(2);
    turn(4000);
    assert.equal(socket.finished, 0);
    turn(5000);
    assert.deepEqual([account.completed, socket.finished], [5, 1]);
    assert.equal(account.firstNs, 0);
  });

  test('thinks: its alarm is a wake-up of its own, without a read', () => {
    const { socket, requester, turn } = client({ thinkNs: 10_000 });
    requester.opened(0);
    requester.arrived(1);
    const read = 1000 + turn(1000);
    assert.equal(socket.sent.length, 1);
    assert.equal(requester.nextAlarm, read + 10_000);
    assert.equal(turn(read + 9999), -1);
    assert.equal(turn(read + 10_000), WAKE);
    assert.equal(socket.sent.length, 2);
  });

  test('sends nothing from `until` on, and finishes with the last response', () => {
    const { socket, requester, turn } = client({ until: 2000 });
    requester.opened(0);
    requester.arrived(1);
    turn(100);
    assert.equal(socket.sent.length, 2);
    requester.arrived(1);
    turn(1999);
    assert.deepEqual([socket.sent.length, socket.finished], [2, 1]);
  });

  test('gives up after a second where responses can be lost; one that comes late is nobody’s', () => {
    const { socket, account, requester, turn } = client({ count: 2 }, true);
    requester.opened(0);
    assert.equal(requester.nextAlarm, SECOND);
    assert.equal(turn(SECOND), WAKE);
    assert.deepEqual([account.lost, socket.sent.length], [1, 2]);
    turn(2 * SECOND + WAKE);
    assert.deepEqual([account.lost, socket.finished, account.completed], [2, 1, 0]);
    requester.arrived(1);
    turn(3 * SECOND);
    assert.deepEqual([account.completed, socket.finished, requester.nextAlarm], [0, 1, NEVER]);
  });

  test('a datagram has the tag of its request: who it answers is known, whatever was lost', () => {
    const { socket, account, requester, turn } = client({ outstanding: 3, count: 6 }, true);
    requester.opened(0);
    assert.equal(new Set(socket.tags).size, 3);
    // the first one's response is lost
    const answer = (tag: number, now: number): void => {
      socket.tag = tag;
      requester.arrived(1);
      turn(now);
    };
    answer(socket.tags[1]!, 1000);
    assert.equal(account.mean, 1000 + WAKE + READ + 5);
    answer(socket.tags[2]!, 5000);
    answer(socket.tags[2]!, 6000); // a second time
    assert.deepEqual([account.completed, socket.sent.length], [2, 5]);
    answer(socket.tags[3]!, 100_000);
    answer(socket.tags[4]!, 200_000);
    assert.deepEqual([account.completed, socket.sent.length], [4, 6]);
    answer(socket.tags[5]!, 300_000);
    assert.equal(requester.nextAlarm, SECOND);
    assert.equal(socket.finished, 0);
    turn(SECOND);
    assert.deepEqual([account.lost, account.completed, socket.finished], [1, 5, 1]);
    // and it comes after all
    answer(socket.tags[0]!, SECOND + 1e6);
    assert.equal(account.completed, 5);
  });

  test('on a stream it waits for as long as that takes', () => {
    const { requester } = client({});
    requester.opened(0);
    assert.equal(requester.nextAlarm, NEVER);
  });

  test('clients of one account share its number', () => {
    const one = client({ count: 3 });
    const socket = new Socket();
    const two = new Requester(services(), one.account, socket, false);
    one.requester.opened(0);
    two.opened(0);
    one.requester.arrived(1);
    one.turn(10);
    two.arrived(1);
    two.begin(PLACE, false);
    two.worked(PLACE, 20);
    assert.deepEqual([one.socket.sent.length, socket.sent.length, socket.finished], [2, 1, 1]);
  });
});

test('a reader of a stream takes what is there, a buffer at a time, and pays for each byte', () => {
  const reads: number[] = [];
  const reader = new StreamReader(services(), (bytes) => reads.push(bytes));
  reader.opened();
  reader.arrived(200_000);
  assert.equal(reader.work(0), WAKE + READ + 131_072 / 4);
  reader.begin(PLACE, false);
  // what comes meanwhile is not in this read
  reader.arrived(1000);
  reader.worked(PLACE, 10);
  assert.equal(reader.work(10), READ + Math.floor((201_000 - 131_072) / 4));
  reader.begin(PLACE, false);
  reader.worked(PLACE, 20);
  assert.deepEqual(reads, [131_072, 201_000 - 131_072]);
  assert.equal(reader.work(20), -1);
});
