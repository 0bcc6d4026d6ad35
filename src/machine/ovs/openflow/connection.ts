/**
 * One OpenFlow connection: negotiation of the version, messages in and out, keep-alive, and what the other side has set for itself
 * (ovs ofproto/connmgr.c, struct ofconn; lib/vconn.c).
 */
import { OfError } from '../flow/actions.ts';
import type { Peer, Session } from '../stream.ts';
import type { OpenflowAgent } from './agent.ts';
import { Assembler } from './assembler.ts';
import { BundleStore } from './bundles.ts';
import { Framing } from './framing.ts';
import { handle, isChange } from './handlers.ts';
import { MonitorSet } from './monitors.ts';
import { type AsyncConfig, defaultAsync, NO_ASYNC } from './wire/async.ts';
import { finish, header, message } from './wire/buffer.ts';
import { HEADER, OFP14_VERSION, OFPT_ECHO_REPLY, OFPT_ECHO_REQUEST, OFPT_HELLO } from './wire/codes.ts';
import { OFPCR12_ROLE_EQUAL, OFPCR12_ROLE_SECONDARY } from './wire/config.ts';
import { encodeErrorReply } from './wire/errors.ts';
import { decodeHello, encodeHello, encodeIncompatible, highestVersion } from './wire/hello.ts';
import { decodeRequest, type RequestKind } from './wire/messages.ts';

/** Replies that nobody takes: a peer that asks and does not read is cut off there. */
// DEVIATION: Open vSwitch stops reading from such a peer, and goes on when it has read.
const MAX_QUEUED = 64 << 20;
/** Packet-ins are dropped while so much waits (ovs: while 100 of them wait). */
const MAX_QUEUED_PACKET_INS = 1 << 20;
const OFP_DEFAULT_MISS_SEND_LEN = 128;

/** `primary`: a controller; `service`: a client that only gets asynchronous messages once it asks for them. */
export type ConnectionType = 'primary' | 'service';

/** What a controller's first messages show: it has taken the switch on (ovs lib/rconn.c, is_admitted_msg()). */
const BEFORE_ADMISSION: ReadonlySet<RequestKind> = new Set([
  'hello',
  'error',
  'echo_request',
  'echo_reply',
  'features',
  'get_config',
  'set_config',
  'desc',
  'port_desc',
]);

export class Connection implements Session {
  declare readonly agent: OpenflowAgent;
  declare readonly peer: Peer;
  declare readonly type: ConnectionType;
  /** Bits of the versions that may be spoken, and the one that is; 0: none yet. */
  declare private readonly versions: number;
  version = 0;
  role = OFPCR12_ROLE_EQUAL;
  /** Flows of OpenFlow 1.0 in Nicira's form: NXT_SET_FLOW_FORMAT. */
  nxm = false;
  /** NXT_FLOW_MOD_TABLE_ID. */
  tableId = false;
  /** NXT_SET_PACKET_IN_FORMAT; 0: the version's own. */
  packetInFormat = 0;
  asyncConfig: AsyncConfig = defaultAsync(1);
  missSendLen: number;
  invalidTtlToController = false;
  controllerId = 0;
  readonly bundles: BundleStore;
  readonly monitors: MonitorSet;
  /** Controller.enable_async_messages. */
  asyncMessages = true;
  /** The other side has done what only a controller does that means to stay. */
  admitted = false;
  private readonly framing = new Framing();
  private readonly assembler = new Assembler();
  private gone = false;
  /** For keep-alives: when something came last, and whether a probe is out, ms. */
  private heardAt: number;
  private probing = false;
  /** Seconds; 0: no probes. */
  probeInterval: number;
  /** Called once when the connection ends. */
  declare private readonly ended: (error: string | null) => void;

  constructor(
    agent: OpenflowAgent,
    peer: Peer,
    type: ConnectionType,
    versions: number,
    probeInterval: number,
    ended: (error: string | null) => void,
  ) {
    this.agent = agent;
    this.bundles = new BundleStore(agent.bundleRoom);
    this.peer = peer;
    this.type = type;
    this.versions = versions;
    this.missSendLen = type === 'primary' ? OFP_DEFAULT_MISS_SEND_LEN : 0;
    this.monitors = new MonitorSet(this);
    this.probeInterval = probeInterval;
    this.heardAt = agent.nowMs;
    this.ended = ended;
    peer.send(encodeHello(versions, agent.nextXid()));
  }

  get connected(): boolean {
    return this.version !== 0 && !this.gone;
  }
  get open(): boolean {
    return !this.gone;
  }
  get idle(): boolean {
    return this.probing;
  }
  get secondary(): boolean {
    return this.role === OFPCR12_ROLE_SECONDARY;
  }

  // ---- in ---------------------------------------------------------------------------------------------------------------
  receive(bytes: Uint8Array): void {
    if (this.gone) return;
    this.heardAt = this.agent.nowMs;
    this.probing = false;
    const changes = new Map<string, number>();
    const waiting: Uint8Array[] = [];
    const whole = this.framing.push(bytes, (one) => {
      if (this.gone) return;
      if (this.version === 0) this.negotiate(one);
      else waiting.push(one);
    });
    for (const one of waiting) {
      const name = isChange(one);
      if (name !== null) changes.set(name, (changes.get(name) ?? 0) + 1);
    }
    if (waiting.length > 0 && !this.gone) this.process(waiting, changes);
    if (!whole) this.end('Protocol error');
  }

  /** What came at once is done at once: a change of the world has its price, however small. */
  private process(messages: readonly Uint8Array[], changes: ReadonlyMap<string, number>): void {
    const { agent } = this;
    const all = (now: number, contextBits: number): void => {
      for (const one of messages) {
        if (this.gone) return;
        this.one(one, now, contextBits);
      }
    };
    if (changes.size === 0) {
      all(agent.now(), agent.contextBits);
      return;
    }
    const list = [...changes].map(([name, count]) => (count === 1 ? name : `${count} ${name}`));
    agent.act(`${agent.ofproto.name}: ${list.join(', ')} from ${this.peer.name}`, all);
  }

  private negotiate(bytes: Uint8Array): void {
    // Whatever its version, a HELLO is told by its type.
    if (bytes[1] !== OFPT_HELLO) {
      this.end('Protocol error');
      return;
    }
    const theirs = decodeHello(bytes);
    const version = highestVersion(theirs & this.versions);
    if (version === 0) {
      this.peer.send(encodeIncompatible(this.versions, theirs));
      this.end('Protocol error');
      return;
    }
    this.version = version;
    this.asyncConfig = this.asyncMessages ? defaultAsync(version) : NO_ASYNC;
    this.agent.negotiated(this);
  }

  private one(bytes: Uint8Array, now: number, contextBits: number): void {
    const { version, type } = header(bytes);
    if (version !== this.version && !(type <= OFPT_ECHO_REPLY && known(version))) {
      // Not ours to understand; said so, and no more.
      this.send(encodeErrorReply('OFPBRC_BAD_VERSION', bytes));
      return;
    }
    this.attempt(bytes, () => {
      const request = decodeRequest(bytes);
      if (!BEFORE_ADMISSION.has(request.kind)) this.admitted = true;
      if (request.stat < 0) {
        handle(this, request, null, now, contextBits);
        return;
      }
      const assembled = this.assembler.add(request, this.agent.nowMs);
      if (assembled !== null) handle(this, assembled.request, assembled, now, contextBits);
    });
    this.agent.flushUpdates();
  }

  /** Does something for a message; where it is refused, its sender is told. */
  attempt(bytes: Uint8Array, run: () => void): boolean {
    try {
      run();
      return true;
    } catch (error) {
      if (!(error instanceof OfError)) throw error;
      this.send(encodeErrorReply(error.errorName, bytes));
      return false;
    }
  }

  // ---- out --------------------------------------------------------------------------------------------------------------
  send(bytes: Uint8Array): void {
    // No message can say that it is longer: one that is forwarded in another, a packet-in with all the userdata that there can be.
    if (this.gone || bytes.length > 0xffff) return;
    this.peer.send(bytes);
    if (this.peer.queued > MAX_QUEUED) this.end('No buffer space available');
  }
  sendAll(messages: readonly Uint8Array[]): void {
    for (const one of messages) this.send(one);
  }
  /** False: too much waits for the peer already. */
  sendPacketIn(bytes: Uint8Array): boolean {
    if (this.peer.queued > MAX_QUEUED_PACKET_INS) return false;
    this.send(bytes);
    return true;
  }

  /** Whether it wants asynchronous messages of a kind (OAM_…) with a reason (ovs ofconn_receives_async_msg()). */
  receives(kind: number, reason: number): boolean {
    if (!this.connected || (this.type === 'service' && this.missSendLen === 0)) return false;
    const masks = this.secondary ? this.asyncConfig.secondary : this.asyncConfig.primary;
    return (masks[kind]! & (1 << reason)) !== 0;
  }
  /** Which messages a frame that matches nothing leads to: OpenFlow before 1.3 asks for packet-ins. */
  get wantsMisses(): boolean {
    return this.connected && this.version < 4 && (this.type === 'primary' || this.missSendLen > 0);
  }
  get roleStatus(): boolean {
    return this.version >= OFP14_VERSION;
  }

  // ---- time and end -------------------------------------------------------------------------------------------------------
  tick(nowMs: number): void {
    this.agent.nowMs = Math.max(this.agent.nowMs, nowMs);
    if (this.gone) return;
    this.assembler.expire(nowMs, (last) => this.send(encodeErrorReply('OFPBRC_MULTIPART_REQUEST_TIMEOUT', last)));
    const interval = this.probeInterval * 1000;
    if (interval === 0 || nowMs - this.heardAt < interval) return;
    if (this.probing || this.version === 0) {
      this.end('Connection timed out');
      return;
    }
    this.probing = true;
    this.heardAt = nowMs;
    this.send(finish(message(this.version, OFPT_ECHO_REQUEST, 0, HEADER)));
  }
  closed(error: string | null): void {
    if (this.gone) return;
    this.gone = true;
    this.bundles.clear();
    this.agent.forget(this);
    this.ended(error);
  }
  /** We end it. */
  end(error: string | null): void {
    if (this.gone) return;
    this.peer.close();
    this.closed(error);
  }
}

function known(version: number): boolean {
  return version >= 1 && version <= 6;
}
