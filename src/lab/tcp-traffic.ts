/** TCP traffic of a run: its connections, from the handshake to both FINs, and what came of them. */
import { RandomStream } from '../engine/random.ts';
import { LinuxVcpu } from '../machine/guest/linux-vcpu.ts';
import type { IpPath } from '../machine/guest/stack/ip-path.ts';
import { TCP_CLOSE, TcpBlock, type TcpOptions, type TcpOwner } from '../machine/guest/stack/tcp-block.ts';
import type { CongestionControl } from '../machine/guest/stack/tcp-congestion.ts';
import { Requester, Responder, type TransactionAccount } from '../machine/guest/traffic/request-response.ts';
import { TcpSource } from '../machine/guest/traffic/tcp-source.ts';
import type { RunLedger } from '../machine/packet/run-ledger.ts';
import type { BuiltNic, Machine } from './build/machine.ts';
import type { TcpResult, TcpSender, TransactionSpec } from './protocol.ts';
import { accountOf } from './transaction-traffic.ts';

/** The server's port where the request names none (iperf). */
export const TCP_PORT = 5001;
export const FIRST_EPHEMERAL = 32768;
export const EPHEMERAL_PORTS = 28232;

export interface TcpPlan {
  readonly from: BuiltNic;
  readonly to: BuiltNic;
  readonly path: IpPath;
  readonly ledger: RunLedger;
  readonly connections: number;
  /** Bytes of all connections together; null = until `duration` ns have passed. */
  readonly bytes: number | null;
  readonly duration: number;
  readonly port: number;
  /** Local ports of the clients count up from here. */
  readonly firstPort: number;
  readonly congestion: CongestionControl;
  readonly sack: boolean;
  /** Bytes of each socket buffer. */
  readonly window: number;
  /** Requests and responses in place of a stream; null = a stream. */
  readonly transactions: TransactionSpec | null;
}
/** Senders that a result tells of one by one. */
const MOST_SENDERS = 16;

/** One side of a connection: the client sends (or asks) and closes, the server reads (or answers) and closes when it has seen the end. */
class TcpEnd implements TcpOwner {
  readonly source: TcpSource;
  gone = false;
  private readonly serves: boolean;
  private readonly traffic: TcpTraffic;

  constructor(traffic: TcpTraffic, nic: BuiltNic, pair: number, options: TcpOptions, serves: boolean) {
    const services = traffic.machine.services;
    const kernel = nic.guest.vcpu instanceof LinuxVcpu;
    const cost = kernel ? services.ns('guest_udp_send') : services.ns('virtio_pmd_per_packet');
    this.serves = serves;
    this.traffic = traffic;
    const block = new TcpBlock(services, nic.nic, pair, nic.guest.stack.pattern, options, this);
    this.source = new TcpSource(block, cost);
    this.source.ledger = traffic.plan.ledger;
  }
  ended(): void {
    if (this.serves) this.source.block.close();
  }
  closed(reason: string | null): void {
    this.gone = true;
    this.traffic.closed(reason);
  }
  roundTrip(ns: number): void {
    // of requests and responses it is the transactions that are told
    if (this.traffic.account === null) this.traffic.plan.ledger.addLatency(ns);
  }
}

export class TcpTraffic {
  readonly machine: Machine;
  readonly plan: TcpPlan;
  /** Called when a connection failed. */
  onFailure: (reason: string) => void = () => {};
  /** What was asked and answered; null where it is a stream. */
  account: TransactionAccount | null = null;
  private readonly clients: TcpEnd[] = [];
  private readonly servers: TcpEnd[] = [];
  private stopped = false;

  constructor(machine: Machine, plan: TcpPlan) {
    this.machine = machine;
    this.plan = plan;
  }

  /** Opens all connections at virtual time `now`. */
  start(now: number): void {
    const { plan, machine } = this;
    const { transactions } = plan;
    if (transactions !== null) this.account = accountOf(transactions, now, plan.duration, plan.ledger);
    const random = new RandomStream(machine.topology.seed, `tcp ${plan.ledger.index}`);
    for (let i = 0; i < plan.connections; i++) {
      const clientStart = random.next();
      const serverStart = random.next();
      const local = plan.firstPort + i;
      const common = {
        timestampOffset: random.next() | 0,
        congestion: plan.congestion,
        sack: plan.sack,
        buffer: plan.window,
      };
      const client = new TcpEnd(
        this,
        plan.from,
        i % plan.from.nic.active,
        {
          ...common,
          localPort: local,
          remotePort: plan.port,
          mtu: plan.from.nic.mtu,
          iss: random.next() | 0,
          sendStart: clientStart,
          receiveStart: serverStart,
        },
        false,
      );
      const server = new TcpEnd(
        this,
        plan.to,
        i % plan.to.nic.active,
        {
          ...common,
          localPort: plan.port,
          remotePort: local,
          mtu: plan.to.nic.mtu,
          iss: random.next() | 0,
          sendStart: serverStart,
          receiveStart: clientStart,
        },
        true,
      );
      this.clients.push(client);
      this.servers.push(server);
      plan.to.guest.stack.tcp.listen(server.source);
      plan.to.guest.vcpu.addSource(server.source);
      plan.from.guest.stack.tcp.add(client.source);
      const { account } = this;
      if (account !== null) {
        const { services } = machine;
        client.source.serve(new Requester(services, account, client.source, false));
        server.source.serve(new Responder(services, account.terms, server.source));
      } else server.source.readStream();
      if (account === null && plan.bytes === null) client.source.writeUntil(now + plan.duration);
      client.source.block.connect(plan.path);
      if (account === null && plan.bytes !== null) client.source.writeBytes(this.share(i));
      client.source.refresh(Float64Array.of(now));
      plan.from.guest.vcpu.addSource(client.source);
    }
  }
  /** Bytes of connection `i`: the first ones have those that do not divide evenly. */
  private share(i: number): number {
    const { bytes, connections } = this.plan;
    return Math.floor(bytes! / connections) + (i < bytes! % connections ? 1 : 0);
  }

  /** One side of a connection is gone. */
  closed(reason: string | null): void {
    if (this.stopped) return;
    if (reason !== null) {
      this.stop();
      this.onFailure(reason);
      return;
    }
    if (this.ends.some((e) => !e.gone)) return;
    const wrong = this.result().mismatches;
    this.stop();
    if (wrong > 0) this.onFailure(`${wrong} segments arrived with bytes that were not sent`);
  }
  private get ends(): readonly TcpEnd[] {
    return [...this.clients, ...this.servers];
  }

  /** Forgets all connections: nothing more is sent. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    for (const c of this.clients) {
      c.source.cancel();
      this.plan.from.guest.stack.tcp.remove(c.source);
    }
    for (const s of this.servers) {
      s.source.cancel();
      this.plan.to.guest.stack.tcp.remove(s.source);
    }
    this.machine.frames.sourceDone(this.plan.ledger);
  }

  result(): TcpResult {
    const { ledger } = this.plan;
    const client = this.clients.map((c) => c.source.block);
    const server = this.servers.map((s) => s.source.block);
    const both = [...client, ...server];
    const agreed = client.filter((b) => b.negotiated);
    const sum = (blocks: readonly TcpBlock[], of: (b: TcpBlock) => number): number =>
      blocks.reduce((n, b) => n + of(b), 0);
    const bytes = sum(server, (b) => b.received);
    const packets = sum(client, (b) => b.dataPackets);
    const segments = sum(client, (b) => b.dataSegments);
    const seconds = (ledger.lastDeliveryNs - ledger.firstSendNs) / 1e9;
    return {
      congestion: this.plan.congestion,
      sack: agreed.length === 0 ? null : agreed.every((b) => b.sack),
      senders: client.slice(0, MOST_SENDERS).map(senderOf),
      fastRecoveries: sum(both, (b) => b.recovery.count),
      connections: this.plan.connections,
      open: this.ends.filter((e) => !e.gone && e.source.block.state !== TCP_CLOSE).length,
      bytes,
      acknowledgedBytes: sum(client, (b) => b.acknowledged),
      bitsPerSecond: ledger.firstSendNs >= 0 && seconds > 0 ? (bytes * 8) / seconds : 0,
      packets,
      segments,
      segmentsPerPacket: packets === 0 ? 0 : segments / packets,
      mss: client[0]?.mss ?? 0,
      retransmits: sum(both, (b) => b.retransmits),
      timeouts: sum(both, (b) => b.timeouts),
      mismatches: sum(both, (b) => b.mismatches),
    };
  }
}

function senderOf(b: TcpBlock): TcpSender {
  const { cwnd, ssthresh } = b.congestion;
  return {
    localPort: b.localPort,
    cwndBytes: Number.isFinite(cwnd) ? Math.floor(cwnd) : 0,
    ssthreshBytes: Number.isFinite(ssthresh) ? Math.floor(ssthresh) : null,
    smoothedRoundTripSeconds: b.srtt / 1e9,
    retransmits: b.retransmits,
    fastRecoveries: b.recovery.count,
    timeouts: b.timeouts,
  };
}
