/** A bridge with three ports and its OpenFlow agent, in memory; and clients that talk to it without sockets. */

import { OFPP_LOCAL } from '../../../../../src/machine/ovs/flow/actions.ts';
import { Backer } from '../../../../../src/machine/ovs/ofproto/backer.ts';
import { TRUNK_OF_ALL } from '../../../../../src/machine/ovs/ofproto/bundle.ts';
import type { Ofproto } from '../../../../../src/machine/ovs/ofproto/ofproto-dpif.ts';
import { OpenflowAgent } from '../../../../../src/machine/ovs/openflow/agent.ts';
import { Framing } from '../../../../../src/machine/ovs/openflow/framing.ts';
import { errorNameOf } from '../../../../../src/machine/ovs/openflow/wire/errors.ts';
import { type Door, NO_STREAMS, type Peer, type Session } from '../../../../../src/machine/ovs/stream.ts';

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'));

/** The name of the error that a message is; `type,code` of one without a name, null where it is none. */
export function errorIn(bytes: Uint8Array): string | null {
  if (bytes[1] !== 1) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const [version, type, code] = [bytes[0]!, view.getUint16(8), view.getUint16(10)];
  let name: string | null;
  // Nicira's errors and those of experimenters say whose they are.
  if (type === 0xb0c2) name = errorNameOf(version, view.getUint32(12), view.getUint16(16), view.getUint16(18));
  else if (type === 0xffff) name = errorNameOf(version, view.getUint32(12), code, 0);
  else name = errorNameOf(version, 0, type, code);
  return name ?? `${type},${code}`;
}

/** The other end of a connection: what it was sent, message by message. */
export class Client implements Peer {
  readonly name = 'unix:test';
  queued = 0;
  open = true;
  readonly received: Uint8Array[] = [];
  private readonly framing = new Framing();
  declare session: Session;

  send(bytes: Uint8Array): void {
    this.framing.push(bytes.slice(), (one) => this.received.push(one.slice()));
  }
  close(): void {
    this.open = false;
  }
  /** Sends, and returns the answers in hex. */
  say(...messages: readonly string[]): string[] {
    const before = this.received.length;
    this.session.receive(Buffer.concat(messages.map(unhex)));
    return this.received.slice(before).map(hex);
  }
}

export class TestSwitch {
  readonly sent: { frame: Uint8Array; actions: readonly unknown[] }[] = [];
  readonly ofproto: Ofproto;
  readonly agent: OpenflowAgent;
  now = 1e9;
  acts = 0;
  readonly door: Door = {
    act: (_command, _detail, run) => {
      this.acts++;
      return run(this.now, 0);
    },
    now: () => this.now,
  };

  constructor() {
    const backer = new Backer({
      name: 'system@ovs-system',
      type: 'system',
      execute: (frame, _key, actions) => this.sent.push({ frame: frame.slice(), actions }),
      bytesOf: () => new Uint8Array(0),
    });
    this.ofproto = backer.addBridge({ name: 'br0', mac: unhex('0200000000aa'), place: 0 });
    this.agent = new OpenflowAgent(this.ofproto);
    this.agent.connect(this.door, NO_STREAMS);
    this.agent.setDatapathId(0xaan);
    this.agent.setRemotes({ controllers: [], failMode: 'secure', protocols: [] }, this.now);
    const port = (number: number, name: string, mac: string): void => {
      const type = number === OFPP_LOCAL ? 'internal' : 'dummy';
      const dpPort = number === OFPP_LOCAL ? 100 : number;
      this.ofproto.addPort({ name, number, dpPort, type, mac: unhex(mac), peer: null }, this.now);
    };
    port(OFPP_LOCAL, 'br0', '0200000000aa');
    for (let i = 1; i <= 3; i++) port(i, `p${i}`, `aa55aa55${(0x14 + i).toString(16).padStart(4, '0')}`);
    for (const { name, number } of [...this.ofproto.ports.values()]) {
      this.ofproto.setBundle({ ...TRUNK_OF_ALL, name, ports: [number] });
    }
  }

  /** A client that has said nothing yet, not even HELLO. */
  client(): Client {
    const client = new Client();
    client.session = this.agent.accept(client);
    return client;
  }
  /** A client that has negotiated a version. */
  speaking(version: number): Client {
    const client = this.client();
    const bitmap = (1 << version).toString(16).padStart(8, '0');
    client.say(`0${version}00001000000001 00010008${bitmap}`);
    client.received.length = 0;
    return client;
  }
}
