/** A host with one bridge whose datapath holds nothing: what commands say without a world. */
import type { OvsDatapath } from '../../../../../src/machine/ovs/datapath/datapath.ts';
import type { Megaflow } from '../../../../../src/machine/ovs/datapath/megaflow-table.ts';
import { OFPP_LOCAL } from '../../../../../src/machine/ovs/flow/actions.ts';
import { Backer } from '../../../../../src/machine/ovs/ofproto/backer.ts';
import { TRUNK_OF_ALL } from '../../../../../src/machine/ovs/ofproto/bundle.ts';
import type { Ofproto } from '../../../../../src/machine/ovs/ofproto/ofproto-dpif.ts';
import type { PortCounters } from '../../../../../src/machine/ovs/ofproto/port.ts';
import type { Door } from '../../../../../src/machine/ovs/stream.ts';
import type { CtlDatapath, CtlHost } from '../../../../../src/machine/ovs/unixctl/host.ts';

const counters = (packets: number): PortCounters => ({
  rxPackets: packets,
  rxBytes: 106 * packets,
  rxDropped: 0,
  rxErrors: 0,
  txPackets: packets,
  txBytes: 106 * packets,
  txDropped: 0,
  txErrors: 0,
});

export class FakeHost implements CtlHost {
  readonly version = '3.1.0';
  readonly backer = new Backer({
    name: 'system@ovs-system',
    type: 'system',
    execute: () => {},
    bytesOf: () => new Uint8Array(0),
  });
  readonly flows: Megaflow[] = [];
  readonly bridge: Ofproto;
  readonly datapaths: readonly CtlDatapath[];
  readonly received: string[] = [];
  readonly reconnected: string[] = [];
  readonly limits = { averageFlows: 1, maxFlows: 2, flowLimit: 10_000, dumpDurationMs: 1 };
  now = 0;
  /** Commands that went through the door. */
  readonly journal: string[] = [];
  readonly door: Door = {
    now: () => this.now,
    act: (command, detail, run) => {
      if (detail !== null) this.journal.push(`${command} ${detail}`);
      return run(this.now, 0);
    },
  };

  constructor() {
    const datapath = {
      flowCount: 0,
      allFlows: () => this.flows,
      flush: () => this.flows.splice(0),
      conntrack: { connections: () => [], flush: () => {} },
    } as unknown as OvsDatapath;
    this.datapaths = [{ backer: this.backer, datapath, pmds: [] }];
    this.bridge = this.backer.addBridge({ name: 'br0', mac: Uint8Array.of(2, 0, 0, 0, 0, 0x10), place: 1 });
    const port = (name: string, number: number, dpPort: number, type: string, packets: number): void => {
      const mac = Uint8Array.of(2, 0, 0, 0, 0, dpPort);
      const settings = { name, number, dpPort, type, mac, peer: null, counters: () => counters(packets) };
      this.bridge.addPort(settings, 0);
      this.bridge.setBundle({ ...TRUNK_OF_ALL, name, ports: [number] });
    };
    port('br0', OFPP_LOCAL, 100, 'internal', 0);
    port('p1', 1, 1, 'system', 30);
    port('p2', 2, 2, 'dummy', 11);
  }

  upcalls(): typeof this.limits {
    return this.limits;
  }
  rebalance(): void {
    this.journal.push('rebalanced');
  }
  revalidate(): void {
    this.journal.push('revalidated');
  }
  coverage(): Readonly<Record<string, number>> {
    return { bridge_reconfigure: 2 };
  }
  memory(): Readonly<Record<string, number>> {
    return { 'idl-cells-Open_vSwitch': 302 };
  }
  reconnect(bridge: Ofproto): void {
    this.reconnected.push(bridge.name);
  }
  receive(port: string, frame: Uint8Array): boolean {
    if (port !== 'p2') return false;
    this.received.push(Buffer.from(frame).toString('hex'));
    return true;
  }
}
