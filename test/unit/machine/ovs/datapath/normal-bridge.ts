/** A bridge that switches as a fresh one does (`priority=0 actions=NORMAL`), behind a datapath without a world; it has no LOCAL. */
import type { Port } from '../../../../../src/machine/host/port.ts';
import type { OvsBridge } from '../../../../../src/machine/ovs/datapath/bridge.ts';
import { DatapathDpif } from '../../../../../src/machine/ovs/datapath/dpif.ts';
import type { KernelDatapath } from '../../../../../src/machine/ovs/datapath/kernel-datapath.ts';
import type { NetdevDatapath } from '../../../../../src/machine/ovs/datapath/netdev-datapath.ts';
import { Backer } from '../../../../../src/machine/ovs/ofproto/backer.ts';
import { TRUNK_OF_ALL } from '../../../../../src/machine/ovs/ofproto/bundle.ts';
import { macText } from '../../../../../src/machine/ovs/ofproto/mac-table.ts';
import type { Ofproto } from '../../../../../src/machine/ovs/ofproto/ofproto-dpif.ts';
import type { Services } from '../../../../../src/machine/services.ts';

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 0xaa);

export class NormalBridge {
  private readonly ofproto: Ofproto;
  private readonly datapath: KernelDatapath | NetdevDatapath;

  constructor(
    services: Services,
    datapath: KernelDatapath | NetdevDatapath,
    bridge: OvsBridge,
    options: { readonly macTableSize: number; readonly macAgingSeconds: number },
  ) {
    this.datapath = datapath;
    const backer = new Backer(new DatapathDpif(services, datapath));
    const ofproto = backer.addBridge({ name: 'br0', mac: MAC, place: bridge.place });
    ofproto.macs.configure(options.macAgingSeconds, options.macTableSize, [], 0);
    datapath.slow = backer;
    this.ofproto = ofproto;
  }
  added({ number, name }: Port): void {
    this.ofproto.addPort({ name, number, dpPort: number, type: 'dummy', mac: MAC, peer: null }, 0);
    this.ofproto.setBundle({ ...TRUNK_OF_ALL, name, ports: [number] }, 0);
  }
  removed({ number, name }: Port): void {
    this.ofproto.removePort(number, 0);
    this.ofproto.removeBundle(name, 0);
  }

  /** The MAC table at `now`, brought up to date by what flows have counted. `age` in seconds. */
  entries(now: number): { readonly port: number; readonly mac: string; readonly age: number }[] {
    this.datapath.creditAll();
    const { macs } = this.ofproto;
    return Array.from(macs.entries(now), (entry) => ({
      port: entry.bundle.ports[0]!.number,
      mac: macText(entry.mac),
      age: macs.age(entry, now)!,
    }));
  }
  /** The same as it stands. */
  learned(): readonly { readonly port: number }[] {
    return Array.from(this.ofproto.macs.entries(Number.NEGATIVE_INFINITY), ({ bundle }) => ({
      port: bundle.ports[0]!.number,
    }));
  }
  /** What the one OpenFlow flow has counted. */
  get rulePackets(): number {
    let packets = 0;
    for (const rule of this.ofproto.tables.tables[0]!.classifier.rules()) packets += rule.packets;
    return packets;
  }
}
