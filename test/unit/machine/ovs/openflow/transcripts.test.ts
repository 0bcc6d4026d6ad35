/** What real clients sent to Open vSwitch 3.1.0, sent to a bridge of ours: the same answers, but for times and counters of a run. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Client, hex, TestSwitch, unhex } from './switch.ts';

interface Message {
  readonly conn: number;
  readonly from: 'client' | 'switch';
  readonly type: string;
  /** null: left out of the recording. */
  readonly hex: string | null;
}
const { transcripts } = JSON.parse(
  readFileSync(new URL('../../../../vectors/ovs/openflow-transcripts.json', import.meta.url), 'utf8'),
) as { transcripts: { name: string; command: string[] | null; messages: Message[] }[] };

/** Types whose bytes do not depend on what else the recorded switch held or how long it had been up. */
const SAME =
  /^(ECHO_REPLY|BARRIER_REPLY|GET_CONFIG_REPLY|BUNDLE_CONTROL|ROLE_REPLY|GET_ASYNC_REPLY|.*:(DESC|TABLE_DESC|GROUP_FEATURES|METER_FEATURES))$/;
const summary = (bytes: Uint8Array): string => `${bytes[0]}:${bytes[1]}`;

/** Type and, of multipart replies and experimenters, what kind: two answers that mean the same have the same. */
function kind(bytes: Uint8Array): string {
  const type = bytes[1]!;
  const multipart = bytes[0] === 1 ? type === 17 : type === 19;
  const part = multipart ? hex(bytes.subarray(8, 10)) : type === 4 ? hex(bytes.subarray(8, 16)) : '';
  const error = type === 1 ? hex(bytes.subarray(8, 12)) : '';
  return `${summary(bytes)} xid ${hex(bytes.subarray(4, 8))} ${part}${error}`;
}

/** Things that the recorded switch had from commands before. */
const BEFORE: Readonly<Record<string, readonly string[]>> = {
  '13-add-group-dup': ['13-add-group-all', '13-add-group-select'],
  '13-flow-to-group': ['13-add-group-all', '13-add-group-select'],
  '13-flow-to-meter': ['13-add-meter'],
  '13-mod-group': ['13-add-group-all'],
  '13-flow-check-overlap': ['13-add-flow-normal', '13-add-flow-l2', '13-flow-ipv4-tcp'],
  '15-insert-buckets': ['13-add-group-all'],
};
/** Changes of the switch by other clients while a monitor looked on, and a bridge of another protocol. */
const SKIPPED = new Set([
  '10-monitor',
  '10-packetin-nxt',
  '13-monitor',
  '13-monitor-watch',
  '13-version-mismatch',
  '13-monitor-invalid-ttl-flowrem',
  'controller-connect-osken',
]);

function play(to: TestSwitch, messages: readonly Message[]): { expected: Message; got: Uint8Array | undefined }[] {
  const clients = new Map<number, Client>();
  const pairs: { expected: Message; got: Uint8Array | undefined }[] = [];
  for (const message of messages) {
    let client = clients.get(message.conn);
    if (client === undefined) {
      client = to.client();
      clients.set(message.conn, client);
    }
    if (message.from === 'client') client.session.receive(unhex(message.hex!));
  }
  for (const [conn, { received }] of clients) {
    const expected = messages.filter((m) => m.conn === conn && m.from === 'switch');
    // Our tables have fewer fields, so their features take fewer messages.
    const big = (bytes: Uint8Array): boolean => bytes.length > 40_000;
    const recorded = expected.filter((m) => !m.type.includes('TABLE_FEATURES'));
    const ours = received.filter((bytes) => !big(bytes) && hex(bytes.subarray(8, 10)) !== '000c');
    recorded.forEach((one, i) => {
      pairs.push({ expected: one, got: ours[i] });
    });
    expect(ours.map(kind).slice(1), `connection ${conn}`).toHaveLength(recorded.length - 1);
  }
  return pairs;
}

describe('recorded sessions of ovs-ofctl', () => {
  for (const { name, messages } of transcripts) {
    if (SKIPPED.has(name)) continue;
    it(name, () => {
      const to = new TestSwitch();
      for (const before of BEFORE[name] ?? []) play(to, transcripts.find((t) => t.name === before)!.messages);
      for (const { expected, got } of play(to, messages)) {
        expect(got, expected.type).toBeDefined();
        if (expected.type === 'HELLO') continue;
        if (expected.hex === null) continue;
        expect(kind(got!), expected.type).toBe(kind(unhex(expected.hex)));
        if (SAME.test(expected.type)) expect(hex(got!), expected.type).toBe(expected.hex);
      }
    });
  }
});

describe('a controller of os-ken', () => {
  it('gets what Open vSwitch answered it, but for what is its own', () => {
    const { messages } = transcripts.find((t) => t.name === 'controller-connect-osken')!;
    const to = new TestSwitch();
    const client = to.client();
    client.session = to.agent.session(client, 'primary', 5, () => {});
    client.received.length = 0;
    const answers = new Map(
      messages.filter((m) => m.from === 'switch' && m.hex !== null).map((m) => [m.hex!.slice(8, 16), m]),
    );
    for (const message of messages.filter((m) => m.from === 'client')) {
      const before = client.received.length;
      client.session.receive(unhex(message.hex!));
      const expected = answers.get(message.hex!.slice(8, 16));
      if (expected === undefined || ['HELLO', 'ECHO_REPLY'].includes(message.type)) continue;
      const got = client.received[before];
      expect(got, message.type).toBeDefined();
      expect(kind(got!)).toBe(kind(unhex(expected.hex!)));
      if (SAME.test(expected.type) || expected.type === 'FEATURES_REPLY')
        expect(hex(got!), expected.type).toBe(expected.hex);
    }
  });
});
