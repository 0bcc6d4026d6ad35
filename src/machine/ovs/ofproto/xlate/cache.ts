/** What a translation has used, so that frames that a datapath flow counts later are credited to it (ovs ofproto-dpif-xlate-cache.c). */
import type { Credits } from '../../datapath/slow-path.ts';
import type { FlowMod } from '../../flow/actions.ts';
import type { Bundle } from '../bundle.ts';
import type { Mirror } from '../mirrors.ts';
import type { Ofproto } from '../ofproto-dpif.ts';
import type { OfPort } from '../port.ts';
import type { FlowTable } from '../tables/flow-table.ts';
import type { BucketState, Group } from '../tables/groups.ts';
import type { Rule } from '../tables/rule.ts';

const TCP_FIN = 1;
const TCP_RST = 4;

type Entry =
  | { readonly kind: 'rule'; readonly rule: Rule }
  | { readonly kind: 'table'; readonly table: FlowTable; readonly matched: boolean }
  | {
      readonly kind: 'normal';
      readonly bridge: Ofproto;
      readonly mac: number;
      readonly vlan: number;
      readonly bundle: Bundle;
      readonly gratuitousArp: boolean;
    }
  | { readonly kind: 'learn'; readonly bridge: Ofproto; readonly mod: FlowMod; readonly limit: number }
  | { readonly kind: 'mirror'; readonly mirror: Mirror }
  | { readonly kind: 'group'; readonly group: Group; readonly bucket: BucketState | null }
  | { readonly kind: 'patch'; readonly out: OfPort; readonly into: OfPort }
  | {
      readonly kind: 'fin_timeout';
      readonly bridge: Ofproto;
      readonly rule: Rule;
      readonly idle: number;
      readonly hard: number;
    };

export class XlateCache implements Credits {
  private readonly entries: Entry[] = [];

  add(entry: Entry): void {
    this.entries.push(entry);
  }

  /** False: a frame of this flow would be learned from, as its source is not known at its port. */
  knowsSources(now: number): boolean {
    return this.entries.every(
      (entry) =>
        entry.kind !== 'normal' ||
        !entry.bridge.macs.wouldUpdate(entry.mac, entry.vlan, entry.gratuitousArp, entry.bundle, now),
    );
  }

  push(packets: number, bytes: number, used: number, tcpFlags: number): void {
    if (packets === 0) return;
    for (const entry of this.entries)
      switch (entry.kind) {
        case 'rule':
          entry.rule.credit(packets, bytes, used);
          break;
        case 'table':
          if (entry.matched) entry.table.matched += packets;
          else entry.table.missed += packets;
          break;
        case 'normal':
          // A port that has gone since learns no more.
          if (entry.bridge.bundles.get(entry.bundle.name) === entry.bundle)
            entry.bridge.macs.update(entry.mac, entry.vlan, entry.gratuitousArp, entry.bundle, used);
          break;
        case 'learn':
          entry.bridge.learn(entry.mod, entry.limit, used);
          break;
        case 'mirror':
          entry.mirror.packets += packets;
          entry.mirror.bytes += bytes;
          break;
        case 'group':
          entry.group.credit(entry.bucket, packets, bytes);
          break;
        case 'patch':
          entry.out.patchTxPackets += packets;
          entry.out.patchTxBytes += bytes;
          entry.into.patchRxPackets += packets;
          entry.into.patchRxBytes += bytes;
          break;
        case 'fin_timeout':
          if ((tcpFlags & (TCP_FIN | TCP_RST)) !== 0)
            entry.bridge.tables.reduceTimeouts(entry.rule, entry.idle, entry.hard);
          break;
      }
  }
}
