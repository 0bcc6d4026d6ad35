/**
 * Runs of connections: TCP streams, and requests and responses over TCP or UDP. The client asks who its server is, then they begin.
 * Where nobody answers three questions the run has failed, as connect() fails with EHOSTUNREACH: what waited for the address comes
 * back as an ICMP error, which ends a connection that is not established (linux arp_error_report(), tcp_v4_err()).
 *
 * DEVIATION: a connection begins when the address is known: its SYN waits for it, and is not sent again meanwhile.
 */
import { UDP_DISCARD } from '../machine/guest/stack/inet.ts';
import { type IpAddress, IpPath } from '../machine/guest/stack/ip-path.ts';
import { TCP_BUFFER } from '../machine/guest/stack/tcp-block.ts';
import type { BuiltNic, Machine } from './build/machine.ts';
import type { End } from './ends.ts';
import type { TrafficSpec } from './protocol.ts';
import { Refusal } from './refusal.ts';
import { Run } from './run.ts';
import { EPHEMERAL_PORTS, FIRST_EPHEMERAL, TCP_PORT, type TcpPlan, TcpTraffic } from './tcp-traffic.ts';
import { addressesOf, familyOf, placeOf, scopeOf } from './traffic-ends.ts';
import { datagramsFit, transactionResult, UdpTransactions } from './transaction-traffic.ts';

/** TCP without bytes and duration: 1 MiB. */
const DEFAULT_BYTES = 1 << 20;

type Common = Pick<TcpPlan, 'from' | 'to' | 'path' | 'ledger' | 'connections' | 'duration' | 'port' | 'firstPort'>;

/** Local ports that a run's clients have, counted from FIRST_EPHEMERAL on. */
interface HeldPorts {
  readonly first: number;
  readonly count: number;
  readonly guest: BuiltNic['guest'];
  readonly run: Run;
}

export class Connections {
  /** Called when a run has failed, and when nobody answers for its server's address. */
  onFailure: (run: Run, reason: string) => void = () => {};
  onUnreachable: (run: Run, ip: IpAddress) => void = () => {};
  private readonly machine: Machine;
  /** Where the next client begins to look for local ports, from FIRST_EPHEMERAL on. */
  private ports = 0;
  /** Of runs that have not ended. */
  private held: readonly HeldPorts[] = [];

  constructor(machine: Machine) {
    this.machine = machine;
  }

  /** Starts a run at virtual time `now` from the client's NIC `source` to the server's. Throws a Refusal. */
  start(spec: TrafficSpec, source: BuiltNic, target: BuiltNic, from: End, to: End, now: number): Run {
    const { machine } = this;
    const { kind } = spec;
    if (spec.generator !== null)
      throw new Refusal('INVALID', `${kind} has no generator; expected the field to be left out`, '/generator');
    const addresses = addressesOf(source, target, spec.family ?? null);
    if (kind === 'udp_rr' && spec.port === UDP_DISCARD)
      throw new Refusal('INVALID', `port ${UDP_DISCARD} throws everything away; expected another one`, '/port');
    if (kind === 'udp_rr') datagramsFit(spec, source, target, familyOf(addresses.to));
    const connections = spec.connections ?? 1;
    const { guest } = source;
    const first = this.freePorts(guest, connections);
    const ledger = machine.frames.openRun(placeOf(to), placeOf(from));
    const run = new Run(machine, spec.id, kind, from.name, to.name, ledger, scopeOf(machine, [from, to], null));
    this.held = [...this.held, { first, count: connections, guest, run }];
    this.ports = first + connections;
    const firstPort = FIRST_EPHEMERAL + first;
    const { vcpu, stack } = guest;
    stack.resolve(
      source.nic,
      {
        ip: addresses.to,
        resolved: (mac) => {
          if (run.done) return;
          const { from: own, to: server } = addresses;
          const path = new IpPath(machine.arena, source.document.mac, mac, own, server);
          const back = new IpPath(machine.arena, mac, source.document.mac, server, own);
          const duration = (spec.durationSeconds ?? 0) * 1e9;
          const port = spec.port ?? TCP_PORT;
          const common = { from: source, to: target, path, ledger, connections, duration, port, firstPort };
          const begins = Math.max(machine.scheduler.now[0]!, now);
          if (kind === 'udp_rr') this.overUdp(run, spec, common, back, begins);
          else this.overTcp(run, spec, common, begins);
        },
        unreachable: () => this.onUnreachable(run, addresses.to),
      },
      now,
    );
    vcpu.timersChanged();
    return run;
  }
  /**
   * As many local ports in a row as no run of this guest has, the next ones after those that were taken last where they are free.
   * Throws a Refusal where there are none.
   */
  private freePorts(guest: BuiltNic['guest'], connections: number): number {
    this.held = this.held.filter(({ run }) => !run.done);
    const held = this.held.filter((ports) => ports.guest === guest).sort((a, b) => a.first - b.first);
    const freeFrom = (from: number): number | null => {
      let at = from;
      for (const { first, count } of held) {
        if (first >= at + connections) break;
        at = Math.max(at, first + count);
      }
      return at + connections <= EPHEMERAL_PORTS ? at : null;
    };
    const found = freeFrom(this.ports) ?? freeFrom(0);
    if (found !== null) return found;
    const taken = held.reduce((sum, { count }) => sum + count, 0);
    throw new Refusal(
      'CONFLICT',
      `runs in progress have ${taken} of the ${EPHEMERAL_PORTS} local ports of ${guest.document.name}, and no ${connections} in a row are free; expected fewer connections, or a run to end first`,
      '/connections',
    );
  }

  private overUdp(run: Run, spec: TrafficSpec, common: Common, back: IpPath, begins: number): void {
    const udp = new UdpTransactions(this.machine, { ...common, back, transactions: spec.transactions! }, begins);
    udp.onFailure = (reason) => this.onFailure(run, reason);
    run.transactions = () => transactionResult(udp.account, common.ledger, common.connections);
    run.stop = () => udp.stop();
    udp.start(begins);
  }

  private overTcp(run: Run, spec: TrafficSpec, common: Common, begins: number): void {
    const tcp = new TcpTraffic(this.machine, {
      ...common,
      bytes: spec.durationSeconds === undefined ? (spec.bytes ?? DEFAULT_BYTES) : null,
      congestion: spec.congestion ?? 'cubic',
      sack: spec.sack ?? true,
      window: spec.window ?? TCP_BUFFER,
      transactions: spec.kind === 'tcp_rr' ? spec.transactions! : null,
    });
    tcp.onFailure = (reason) => this.onFailure(run, reason);
    run.tcp = () => tcp.result();
    run.stop = () => tcp.stop();
    tcp.start(begins);
    const { account } = tcp;
    if (account !== null) run.transactions = () => transactionResult(account, common.ledger, common.connections);
  }
}
