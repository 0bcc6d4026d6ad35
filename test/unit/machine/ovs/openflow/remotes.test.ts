/** Controllers that a bridge connects to: attempts, back-off, probes, and what the bridge does without them. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { Remotes } from '../../../../../src/machine/ovs/openflow/remotes.ts';
import type { Peer, Session, Streams } from '../../../../../src/machine/ovs/stream.ts';
import { Client, hex, TestSwitch } from './switch.ts';

interface Attempt {
  readonly at: number;
  readonly target: string;
  connected(peer: Peer): Session;
  failed(error: string): void;
  givenUp: boolean;
}
class Network implements Streams {
  readonly attempts: Attempt[] = [];
  readonly listening = new Set<string>();
  at = 0;
  dial(target: string, connected: (peer: Peer) => Session, failed: (error: string) => void): () => void {
    const attempt = { at: this.at, target, connected, failed, givenUp: false };
    this.attempts.push(attempt);
    return () => {
      attempt.givenUp = true;
    };
  }
  listen(target: string): () => void {
    this.listening.add(target);
    return () => this.listening.delete(target);
  }
}
const TARGET = 'tcp:127.0.0.1:6653';
const remotes = (settings: Partial<Remotes['controllers'][number]> = {}, more: Partial<Remotes> = {}): Remotes => ({
  controllers: [
    { target: TARGET, maxBackoff: null, inactivityProbe: null, enableAsyncMessages: true, type: null, ...settings },
  ],
  failMode: 'secure',
  protocols: [],
  ...more,
});

describe('a controller', () => {
  let to: TestSwitch;
  let network: Network;
  beforeEach(() => {
    to = new TestSwitch();
    network = new Network();
    to.agent.connect(to.door, network);
  });
  /** Time passes, second by second; `each` looks on. */
  const pass = (seconds: number, each: () => void = () => {}): void => {
    for (let i = 0; i < seconds; i++) {
      network.at += 1000;
      to.agent.tick(network.at);
      for (const connection of to.agent.connections) connection.tick(network.at);
      each();
    }
  };
  const status = (): Readonly<Record<string, string>> => to.agent.controllers()[0]!.status;
  /** The controller answers the last attempt, and speaks OpenFlow 1.3. */
  const answer = (): Client => {
    const client = new Client();
    client.session = network.attempts.at(-1)!.connected(client);
    client.say('0400000800000001');
    return client;
  };

  it('is tried again after 1, 2, 4 and then every 8 s', () => {
    to.agent.setRemotes(remotes(), to.now);
    network.attempts[0]!.failed('Connection refused');
    expect(status()).toEqual({ last_error: 'Connection refused', state: 'BACKOFF' });
    let seen = 1;
    pass(40, () => {
      if (network.attempts.length === seen) return;
      seen++;
      network.attempts.at(-1)!.failed('Connection refused');
    });
    const times = network.attempts.map(({ at }) => at / 1000);
    expect(times.slice(0, 6)).toEqual([0, 1, 3, 7, 15, 23]);
  });
  it('`max_backoff` bounds the pauses', () => {
    to.agent.setRemotes(remotes({ maxBackoff: 2000 }), to.now);
    network.attempts[0]!.failed('Connection refused');
    let seen = 1;
    pass(12, () => {
      if (network.attempts.length === seen) return;
      seen++;
      network.attempts.at(-1)!.failed('Connection refused');
    });
    expect(network.attempts.slice(0, 5).map(({ at }) => at / 1000)).toEqual([0, 1, 3, 5, 7]);
  });
  it('an attempt that nobody answers is given up', () => {
    to.agent.setRemotes(remotes(), to.now);
    pass(1);
    expect(network.attempts[0]!.givenUp).toBe(true);
    expect(status()).toMatchObject({ last_error: 'Connection timed out', state: 'BACKOFF' });
  });
  it('connected: its row says so, with its role', () => {
    const changes: number[] = [];
    to.agent.onStatus = () => changes.push(to.agent.controllers().filter(({ connected }) => connected).length);
    to.agent.setRemotes(remotes(), to.now);
    const client = answer();
    expect(hex(client.received[0]!).slice(0, 4)).toBe('0600');
    expect(to.agent.controllers()).toMatchObject([{ target: TARGET, connected: true, role: 'other' }]);
    client.say('041800180000000100000002000000000000000000000001');
    expect(to.agent.controllers()[0]!.role).toBe('master');
    pass(3);
    expect(status()).toEqual({ sec_since_connect: '3', state: 'ACTIVE' });
    client.session.closed(null);
    expect(to.agent.controllers()).toMatchObject([{ connected: false, role: 'other' }]);
    expect(status()).toMatchObject({ last_error: 'End of file', state: 'BACKOFF', sec_since_disconnect: '0' });
    expect(changes.at(-1)).toBe(0);
    expect(changes).toContain(1);
  });
  it('silence: an ECHO_REQUEST after 5 s, the end 5 s later; an answer keeps it', () => {
    to.agent.setRemotes(remotes(), to.now);
    const client = answer();
    client.received.length = 0;
    pass(5);
    expect(client.received.map(hex)).toEqual(['0402000800000000']);
    expect(status()['state']).toBe('IDLE');
    client.say('0403000800000000');
    expect(status()['state']).toBe('ACTIVE');
    pass(5);
    expect(client.received).toHaveLength(2);
    pass(5);
    expect(client.open).toBe(false);
    expect(status()).toMatchObject({ last_error: 'Connection timed out', state: 'BACKOFF' });
  });
  it('`inactivity_probe` 0: silence is fine', () => {
    to.agent.setRemotes(remotes({ inactivityProbe: 0 }), to.now);
    const client = answer();
    client.received.length = 0;
    pass(100);
    expect(client.received).toEqual([]);
    expect(client.open).toBe(true);
  });
  it('whose row goes is left alone', () => {
    to.agent.setRemotes(remotes(), to.now);
    const client = answer();
    to.agent.setRemotes({ controllers: [], failMode: 'secure', protocols: [] }, to.now);
    expect(client.open).toBe(false);
    pass(30);
    expect(network.attempts).toHaveLength(1);
    expect(to.agent.controllers()).toEqual([]);
  });
  it('that is listened for is a service, and has no status', () => {
    to.agent.setRemotes(remotes({ target: 'ptcp:6653' }), to.now);
    expect([...network.listening]).toEqual(['ptcp:6653']);
    expect(to.agent.controllers()).toEqual([]);
    to.agent.setRemotes({ controllers: [], failMode: 'secure', protocols: [] }, to.now);
    expect([...network.listening]).toEqual([]);
  });
  it('a new datapath id makes it begin anew', () => {
    to.agent.setRemotes(remotes(), to.now);
    const client = answer();
    to.agent.setDatapathId(0xbbn);
    expect(client.open).toBe(false);
    pass(1);
    expect(network.attempts).toHaveLength(2);
  });

  describe('and the fail mode', () => {
    const flows = (): string[] =>
      [...to.ofproto.tables.tables[0]!.classifier.rules()].map(
        ({ priority, actions }) => `${priority} ${actions.map(({ type }) => type).join()}`,
      );
    it('standalone without a controller: NORMAL; with one, nothing until it comes', () => {
      to.agent.setRemotes({ controllers: [], failMode: 'standalone', protocols: [] }, to.now);
      expect(flows()).toEqual(['0 output']);
      to.agent.setRemotes(remotes({}, { failMode: 'standalone' }), to.now);
      expect(flows()).toEqual([]);
    });
    it('standalone: after three probes without a controller the bridge is a switch, until one is back', () => {
      to.agent.setRemotes(remotes({}, { failMode: 'standalone' }), to.now);
      network.attempts[0]!.failed('Connection refused');
      pass(14);
      expect(flows()).toEqual([]);
      pass(2);
      // FAIL_OPEN_PRIORITY, which no dump shows.
      expect(flows()).toEqual([`${0xf0f0f0} output`]);
      pass(10);
      const client = answer();
      pass(1);
      expect(flows()).toHaveLength(1);
      // The first thing that only a controller does.
      client.say('0414000800000002');
      pass(1);
      expect(flows()).toEqual([]);
    });
    it('secure: nothing, for ever', () => {
      to.agent.setRemotes(remotes(), to.now);
      network.attempts[0]!.failed('Connection refused');
      pass(60);
      expect(flows()).toEqual([]);
    });
  });
});
