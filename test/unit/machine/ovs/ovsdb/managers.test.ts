/** Managers: the connections that rows ask for, made again with back-off, and told of in the rows. */
import { expect, test } from 'vitest';
import { RandomStream } from '../../../../../src/engine/random.ts';
import type { JsonObject } from '../../../../../src/machine/ovs/ovsdb/json.ts';
import { Managers } from '../../../../../src/machine/ovs/ovsdb/rpc/managers.ts';
import { OvsdbServer } from '../../../../../src/machine/ovs/ovsdb/rpc/server.ts';
import type { Acceptor, Peer, Session, Streams } from '../../../../../src/machine/ovs/stream.ts';
import { OPEN_DOOR } from './replay.ts';

interface Dial {
  readonly target: string;
  readonly at: number;
  readonly connected: (peer: Peer) => Session;
  readonly failed: (error: string) => void;
  gaveUp: boolean;
}
interface Listening {
  readonly target: string;
  readonly acceptor: Acceptor;
  readonly listening: (target: string) => void;
  ended: boolean;
}

class Lab {
  now = 0;
  readonly server = new OvsdbServer({ random: new RandomStream(1, 'ovsdb'), door: OPEN_DOOR, clock: () => this.now });
  readonly dials: Dial[] = [];
  readonly doors: Listening[] = [];
  readonly streams: Streams = {
    dial: (target, connected, failed) => {
      const dial: Dial = { target, at: this.now, connected, failed, gaveUp: false };
      this.dials.push(dial);
      return () => {
        dial.gaveUp = true;
      };
    },
    listen: (target, acceptor, listening) => {
      const door: Listening = { target, acceptor, listening, ended: false };
      this.doors.push(door);
      return () => {
        door.ended = true;
      };
    },
  };
  readonly managers: Managers;

  constructor() {
    this.server.database.edit((edit) => void edit.insert('Open_vSwitch', {}));
    this.managers = new Managers(this.server, this.streams);
  }
  setManagers(...rows: JsonObject[]): void {
    const inserts = rows.map((row, i): JsonObject => ({ op: 'insert', table: 'Manager', row, 'uuid-name': `m${i}` }));
    const options = ['set', rows.map((_, i) => ['named-uuid', `m${i}`])];
    const update: JsonObject = { op: 'update', table: 'Open_vSwitch', where: [], row: { manager_options: options } };
    expect(JSON.stringify(this.server.database.transact([...inserts, update]))).not.toContain('error');
  }
  /** Seconds pass, one by one. */
  pass(seconds: number): void {
    for (let i = 0; i < seconds; i++) {
      this.now += 1000;
      this.managers.tick();
    }
  }
  state(target: string): { readonly connected: boolean; readonly status: Record<string, string> } {
    const row = this.server.database.find('Manager', 'target', target)!;
    return { connected: row.flag('is_connected'), status: Object.fromEntries(row.textMap('status')) };
  }
}
class FakePeer implements Peer {
  readonly name = 'tcp:192.0.2.1:6640';
  readonly queued = 0;
  closed = false;
  readonly sent: string[] = [];
  send(bytes: Uint8Array): void {
    this.sent.push(new TextDecoder().decode(bytes));
  }
  close(): void {
    this.closed = true;
  }
}

test('a manager that does not answer is tried after 1, 2, 4, 8, 8 s', () => {
  const lab = new Lab();
  lab.setManagers({ target: 'tcp:192.0.2.1:6640' });
  expect(lab.dials.map(({ at }) => at)).toEqual([0]);
  for (let i = 0; i < 30; i++) {
    const last = lab.dials.at(-1)!;
    if (last.at === lab.now) last.failed('Connection refused');
    lab.pass(1);
  }
  expect(lab.dials.map(({ at }) => at / 1000)).toEqual([0, 1, 3, 7, 15, 23]);
  expect(lab.state('tcp:192.0.2.1:6640')).toEqual({
    connected: false,
    status: { state: 'BACKOFF', last_error: 'Connection refused' },
  });
});

test('max_backoff of the row is kept to; who does not even refuse is given up', () => {
  const lab = new Lab();
  lab.setManagers({ target: 'tcp:192.0.2.1:6640', max_backoff: 2000 });
  for (let i = 0; i < 12; i++) lab.pass(1);
  const starts = lab.dials.map(({ at }) => at / 1000);
  expect(starts.slice(0, 4)).toEqual([0, 2, 5, 9]);
  expect(lab.dials[0]!.gaveUp).toBe(true);
  expect(lab.state('tcp:192.0.2.1:6640').status).toMatchObject({ last_error: 'Connection timed out' });
});

test('a connected manager is a client; its state is written, and when it goes it is called again', () => {
  const lab = new Lab();
  const target = 'tcp:192.0.2.1:6640';
  lab.setManagers({ target });
  const peer = new FakePeer();
  const session = lab.dials[0]!.connected(peer);
  session.receive(new TextEncoder().encode('{"id":1,"method":"lock","params":["L"]}'));
  expect(peer.sent).toEqual(['{"id":1,"result":{"locked":true},"error":null}']);
  lab.pass(3);
  expect(lab.state(target)).toEqual({
    connected: true,
    status: { state: 'ACTIVE', sec_since_connect: '3', locks_held: 'L' },
  });
  session.closed(null);
  expect(lab.server.sessionCount).toBe(0);
  lab.pass(1);
  expect(lab.dials).toHaveLength(2);
  lab.dials[1]!.failed('Connection refused');
  lab.pass(3);
  expect(lab.state(target)).toMatchObject({
    connected: false,
    status: { sec_since_connect: expect.any(String), sec_since_disconnect: expect.any(String) },
  });
});

test('a manager whose row goes is hung up on', () => {
  const lab = new Lab();
  lab.setManagers({ target: 'tcp:192.0.2.1:6640' }, { target: 'tcp:192.0.2.2:6640' });
  const peer = new FakePeer();
  lab.dials[0]!.connected(peer);
  lab.setManagers();
  expect(peer.closed).toBe(true);
  expect(lab.dials[1]!.gaveUp).toBe(true);
  lab.pass(20);
  expect(lab.dials).toHaveLength(2);
});

test('a passive manager listens, says where, counts who has come, and sends them away when its row goes', () => {
  const lab = new Lab();
  const target = 'ptcp:0:127.0.0.1';
  lab.setManagers({ target, inactivity_probe: 1000 });
  const door = lab.doors[0]!;
  expect(door.target).toBe(target);
  door.listening('ptcp:40123:127.0.0.1');
  lab.pass(3);
  expect(lab.state(target)).toEqual({
    connected: false,
    status: { bound_port: '40123', sec_since_connect: '0', sec_since_disconnect: '0' },
  });
  const peers = [new FakePeer(), new FakePeer()];
  const [first] = peers.map((peer) => door.acceptor.accept(peer));
  lab.pass(3);
  expect(lab.state(target)).toMatchObject({ connected: true, status: { n_connections: '2' } });
  // The row's own keep-alive.
  first!.tick!(lab.now);
  expect(peers[0]!.sent).toEqual(['{"id":"echo","method":"echo","params":[]}']);
  lab.setManagers();
  expect(door.ended).toBe(true);
  expect(peers.map(({ closed }) => closed)).toEqual([true, true]);
});

test('writing states is no entry of the journal, and changes nothing that is kept', () => {
  const lab = new Lab();
  lab.setManagers({ target: 'tcp:192.0.2.1:6640' });
  const kept: boolean[] = [];
  lab.server.database.onCommit(({ persistent }) => kept.push(persistent));
  lab.pass(9);
  expect(kept.length).toBeGreaterThan(0);
  expect(kept).not.toContain(true);
  lab.managers.end();
  lab.pass(9);
  expect(lab.dials.at(-1)!.gaveUp).toBe(true);
});
