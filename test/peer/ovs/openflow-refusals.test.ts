/**
 * Messages with faults, sent to Open vSwitch's own daemon and to a bridge of ours: both refuse the same ones, with the same errors, and
 * answer the others alike.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import fc from 'fast-check';
import { afterAll, describe, expect } from 'vitest';
import { Framing } from '../../../src/machine/ovs/openflow/framing.ts';
import { errorIn, hex, TestSwitch, unhex } from '../../unit/machine/ovs/openflow/switch.ts';
import { requirePeer } from '../peers.ts';
import { CLIENTS, DAEMONS, ofctl, type Switch, startReal, vsctl } from './switches.ts';

const FULL = process.env['RINGSIDE_FULL'] === '1';
/** Fixed, so that what the gate looks at is the same each time; the soak looks further. */
const SEED = Number(process.env['RINGSIDE_SEED'] ?? (FULL ? Date.now() & 0xffffff : 20_261_121));
const COUNT = FULL ? 20_000 : 1000;

const { transcripts } = JSON.parse(
  readFileSync(new URL('../../vectors/ovs/openflow-transcripts.json', import.meta.url), 'utf8'),
) as { transcripts: { messages: { from: string; type: string; hex: string | null }[] }[] };
const SENT = new Map<number, Uint8Array[]>();
for (const { messages } of transcripts) {
  for (const { from, type, hex: text } of messages) {
    // The addresses of ports are each switch's own.
    if (from !== 'client' || text === null || /^(HELLO|ERROR|PORT_MOD|ROLE_REQUEST)/.test(type)) continue;
    const bytes = unhex(text);
    SENT.set(bytes[0]!, [...(SENT.get(bytes[0]!) ?? []), bytes]);
  }
}
const faulty = fc
  .constantFrom(1, 4, 4, 5, 6)
  .chain((version) =>
    fc.tuple(
      fc.constantFrom(...SENT.get(version)!),
      fc.array(
        fc.tuple(fc.nat(), fc.oneof(fc.integer({ min: 0, max: 8 }), fc.constantFrom(0x10, 0xfe, 0xff), fc.nat(255))),
        {
          maxLength: 3,
        },
      ),
      fc.constantFrom(0, 0, 0, 0, -24, -8, -4, -1, 1, 4, 8),
    ),
  )
  .map(([message, changes, longer]) => {
    const bytes = new Uint8Array(Math.max(8, message.length + longer));
    bytes.set(message.subarray(0, bytes.length));
    for (const [at, value] of changes) if (bytes.length > 8) bytes[8 + (at % (bytes.length - 8))] = value;
    new DataView(bytes.buffer).setUint16(2, bytes.length);
    return bytes;
  });

const hello = (version: number): string =>
  `0${version}00001000000001 00010008 ${(1 << version).toString(16).padStart(8, '0')}`;
const echo = (version: number): string => `0${version}02000ceeeeeeee70696e67`;

/** What an answer says: the error's name, or its type. Runs of the same type are one. */
function meaning(answers: readonly Uint8Array[]): string[] {
  const said: string[] = [];
  for (const bytes of answers) {
    const one = errorIn(bytes) ?? `${bytes[0]}:${bytes[1]}`;
    if (said.at(-1) !== one) said.push(one);
  }
  return said;
}
/** Known differences, by their cause. */
function cause(bytes: Uint8Array, real: readonly string[], ours: readonly string[]): string | null {
  const [version, type] = [bytes[0]!, bytes[1]!];
  if (type === 33 && ours[0] === 'OFPBFC_BAD_TYPE')
    return 'a BUNDLE_CONTROL of no type: answered with whatever was there';
  if (type === (version === 1 ? 17 : 19)) return 'lengths of statistics replies, which no switch gets';
  const noPacket = ours[0] === 'OFPBRC_BAD_PACKET' || (version === 1 && ours[0] === 'OFPBRC_BAD_LEN');
  if (type === 13 && noPacket && real.length === 0) return 'a frame without an Ethernet header is executed';
  if (real[0]?.startsWith('OFPBRC') && ours[0] === real[0]) return null;
  if (ours[0] === 'OFPBRC_BAD_SUBTYPE') return 'extensions that ours has not: IPFIX, TLV tables';
  const flowMonitor = hex(bytes).includes('4f4e46000000074e') || (type === 18 && bytes[9] === 16);
  if (flowMonitor) return 'errors of a flow monitor are sent as of OpenFlow 1.0';
  if (/80005[89]04/.test(hex(bytes))) return 'packet_type: a field that our flows have no room for';
  return null;
}

const peer = requirePeer(...CLIENTS, ...DAEMONS);
describe('messages with faults', () => {
  let real: Switch;
  const ours = new TestSwitch();

  peer.beforeAll(async () => {
    real = await startReal();
    const dummy = (name: string, i: number): string[] =>
      `-- add-port br0 ${name} -- set Interface ${name} type=dummy ofport_request=${i}`.split(' ');
    const ports = ['p1', 'p2', 'p3'].flatMap((name, i) => dummy(name, i + 1));
    const made = await vsctl(real, 'add-br', 'br0', '--', 'set-fail-mode', 'br0', 'secure', ...ports);
    expect(made).toMatchObject({ status: 0, stderr: '' });
    expect((await ofctl(real, 'del-flows', 'BRIDGE')).status).toBe(0);
  }, 60_000);
  afterAll(async () => {
    await real?.stop();
  });

  /** A connection of its own: HELLO, the message, and an ECHO_REQUEST whose answer ends it. */
  const askReal = (bytes: Uint8Array): Promise<Uint8Array[]> =>
    new Promise((resolve, reject) => {
      const socket = connect(real.openflow('br0').replace('unix:', ''));
      const framing = new Framing();
      const got: Uint8Array[] = [];
      socket.on('error', reject);
      socket.on('close', () => resolve(got));
      socket.on('data', (chunk) => {
        framing.push(chunk, (one) => {
          if (one[1] === 0) return;
          if (hex(one.subarray(4, 8)) === 'eeeeeeee') socket.end();
          else got.push(one.slice());
        });
      });
      socket.write(Buffer.concat([unhex(hello(bytes[0]!)), bytes, unhex(echo(bytes[0]!))]));
    });
  const askOurs = (bytes: Uint8Array): Uint8Array[] => {
    const client = ours.client();
    client.say(hello(bytes[0]!));
    client.received.length = 0;
    client.session.receive(bytes);
    client.session.closed(null);
    return client.received;
  };

  peer(
    'are refused alike',
    async () => {
      const different: string[] = [];
      for (const bytes of fc.sample(faulty, { seed: SEED, numRuns: COUNT })) {
        const [theirs, own] = [meaning(await askReal(bytes)), meaning(askOurs(bytes))];
        if (theirs.join() === own.join() || cause(bytes, theirs, own) !== null) continue;
        different.push(`${hex(bytes)}: ${theirs.join() || 'nothing'}, ours ${own.join() || 'nothing'}`);
      }
      expect(different, `seed ${SEED}`).toEqual([]);
    },
    FULL ? 600_000 : 60_000,
  );
});
