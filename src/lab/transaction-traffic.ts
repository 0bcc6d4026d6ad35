/** Requests and responses over UDP: a connected socket at either end of each connection; and what came of them, over UDP or TCP. */
import { RandomStream } from '../engine/random.ts';
import { NEVER } from '../engine/timeline.ts';
import { LinuxVcpu } from '../machine/guest/linux-vcpu.ts';
import type { IpPath } from '../machine/guest/stack/ip-path.ts';
import { MessageSource } from '../machine/guest/traffic/message-source.ts';
import { Requester, Responder, TransactionAccount } from '../machine/guest/traffic/request-response.ts';
import type { RunLedger } from '../machine/packet/run-ledger.ts';
import type { BuiltNic, Machine } from './build/machine.ts';
import type { TrafficSpec, TransactionResult, TransactionSpec } from './protocol.ts';
import { Refusal } from './refusal.ts';

const UDP_HLEN = 8;
/** Longest packet that senders of messages make: one segment. */
const LARGEST_PACKET = 1500;

/** The account of a run that begins at `now`; `duration` ns, where the number of transactions does not end it. */
export function accountOf(spec: TransactionSpec, now: number, duration: number, ledger: RunLedger): TransactionAccount {
  const { count, requestBytes, responseBytes, outstanding, thinkNs } = spec;
  const ends = count === null ? { count: Number.MAX_SAFE_INTEGER, until: now + duration } : { count, until: NEVER };
  return new TransactionAccount({ requestBytes, responseBytes, outstanding, thinkNs, ...ends }, ledger);
}

export function transactionResult(
  account: TransactionAccount,
  ledger: RunLedger,
  connections: number,
): TransactionResult {
  const { requestBytes, responseBytes, outstanding } = account.terms;
  const seconds = (account.lastNs - account.firstNs) / 1e9;
  return {
    requestBytes,
    responseBytes,
    connections,
    outstanding,
    completed: account.completed,
    lost: account.lost,
    perSecond: seconds > 0 ? account.completed / seconds : 0,
    latencySeconds: {
      mean: account.mean / 1e9,
      p50: ledger.quantile(0.5) / 1e9,
      p90: ledger.quantile(0.9) / 1e9,
      p99: ledger.quantile(0.99) / 1e9,
      max: ledger.maxLatency / 1e9,
    },
  };
}

/** Refuses messages that are no single datagram on both ends' links. */
export function datagramsFit(spec: TrafficSpec, from: BuiltNic, to: BuiltNic, family: 4 | 6): void {
  const most = Math.min(from.nic.mtu, to.nic.mtu, LARGEST_PACKET) - (family === 4 ? 20 : 40) - UDP_HLEN;
  for (const field of ['requestBytes', 'responseBytes'] as const) {
    const bytes = spec.transactions![field];
    if (bytes > most)
      throw new Refusal('INVALID', `${bytes} bytes are no single datagram; expected at most ${most}`, `/${field}`);
  }
}

export interface UdpTransactionPlan {
  readonly from: BuiltNic;
  readonly to: BuiltNic;
  /** From the client to the server. */
  readonly path: IpPath;
  readonly back: IpPath;
  readonly ledger: RunLedger;
  readonly connections: number;
  readonly transactions: TransactionSpec;
  /** ns, where the number of transactions does not end it. */
  readonly duration: number;
  readonly port: number;
  /** Local ports of the clients count up from here. */
  readonly firstPort: number;
}

export class UdpTransactions {
  readonly account: TransactionAccount;
  /** Called when it has failed. */
  onFailure: (reason: string) => void = () => {};
  private readonly machine: Machine;
  private readonly plan: UdpTransactionPlan;
  private readonly clients: MessageSource[] = [];
  private readonly servers: MessageSource[] = [];
  private asking: number;
  private stopped = false;

  /** It begins at virtual time `now`. */
  constructor(machine: Machine, plan: UdpTransactionPlan, now: number) {
    this.machine = machine;
    this.plan = plan;
    this.account = accountOf(plan.transactions, now, plan.duration, plan.ledger);
    this.asking = plan.connections;
  }

  start(now: number): void {
    const { plan, machine, account } = this;
    const { services } = machine;
    const random = new RandomStream(machine.topology.seed, `udp_rr ${plan.ledger.index}`);
    for (let i = 0; i < plan.connections; i++) {
      const starts = [random.next(), random.next()] as const;
      const local = plan.firstPort + i;
      const client = this.socket(plan.from, i, plan.path, local, plan.port, starts[0], starts[1]);
      const server = this.socket(plan.to, i, plan.back, plan.port, local, starts[1], starts[0]);
      client.application = new Requester(services, account, client, true);
      server.application = new Responder(services, account.terms, server);
      client.onFinished = () => this.finished();
      this.clients.push(client);
      this.servers.push(server);
    }
    for (const client of [...this.clients]) client.open(now);
    for (const s of this.servers) plan.to.guest.vcpu.addSource(s);
    for (const c of this.clients) plan.from.guest.vcpu.addSource(c);
  }
  private socket(
    nic: BuiltNic,
    i: number,
    path: IpPath,
    localPort: number,
    remotePort: number,
    sendStart: number,
    receiveStart: number,
  ): MessageSource {
    const { services } = this.machine;
    const { stack, vcpu } = nic.guest;
    const cost = vcpu instanceof LinuxVcpu ? services.ns('guest_udp_send') : services.ns('virtio_pmd_per_packet');
    const options = { path, localPort, remotePort, pattern: stack.pattern, sendStart, receiveStart, cost };
    const socket = new MessageSource(services, nic.nic, i % nic.nic.active, options);
    socket.ledger = this.plan.ledger;
    stack.udpSockets.add(socket);
    return socket;
  }

  /** A client has all its responses, and sends no more. */
  private finished(): void {
    if (--this.asking > 0 || this.stopped) return;
    const wrong = [...this.clients, ...this.servers].reduce((n, s) => n + s.mismatches, 0);
    this.stop();
    if (wrong > 0) this.onFailure(`${wrong} datagrams arrived with bytes that were not sent`);
  }
  /** Closes all sockets: nothing more is sent. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    const { from, to, ledger } = this.plan;
    for (const [nic, sockets] of [
      [from, this.clients],
      [to, this.servers],
    ] as const) {
      for (const socket of sockets) {
        socket.cancel();
        nic.guest.stack.udpSockets.remove(socket);
      }
    }
    this.machine.frames.sourceDone(ledger);
  }
}
