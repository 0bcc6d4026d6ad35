/** Mirrors of a bridge (ovs ofproto/ofproto-dpif-mirror.c). At most MAX_MIRRORS of them, a bit each. */
import type { Bundle } from './bundle.ts';

/** ofproto-dpif-mirror.h. */
export const MAX_MIRRORS = 32;

/** Columns of a Mirror row. Ports by Port.name. */
export interface MirrorSettings {
  readonly name: string;
  /** select_all, or these. */
  readonly selectAll: boolean;
  readonly selectSrcPorts: readonly string[];
  readonly selectDstPorts: readonly string[];
  /** Empty: all. */
  readonly selectVlans: readonly number[];
  /** One of them is set. */
  readonly outputPort: string | null;
  readonly outputVlan: number | null;
  /** Bytes; 0: whole frames. */
  readonly snaplen: number;
}

export interface Mirror {
  readonly settings: MirrorSettings;
  /** Its bit, and those of mirrors with the same output. */
  readonly bit: number;
  dupMirrors: number;
  readonly vlans: ReadonlySet<number> | null;
  readonly out: Bundle | null;
  /** Statistics of the row: tx_packets, tx_bytes. */
  packets: number;
  bytes: number;
}

/** Mirrors as settings and the ports that there are make them; `old` ones with the same name keep their statistics. Marks the ports. */
export function makeMirrors(
  settings: readonly MirrorSettings[],
  bundles: ReadonlyMap<string, Bundle>,
  old: readonly Mirror[],
): Mirror[] {
  const mirrors: Mirror[] = settings.slice(0, MAX_MIRRORS).map((mirror, i) => {
    const before = old.find(({ settings: { name } }) => name === mirror.name);
    return {
      settings: mirror,
      bit: 1 << i,
      dupMirrors: 1 << i,
      vlans: mirror.selectVlans.length === 0 ? null : new Set(mirror.selectVlans),
      out: mirror.outputPort === null ? null : (bundles.get(mirror.outputPort) ?? null),
      packets: before?.packets ?? 0,
      bytes: before?.bytes ?? 0,
    };
  });
  for (const a of mirrors)
    for (const b of mirrors)
      if (a.out === b.out && a.settings.outputVlan === b.settings.outputVlan) a.dupMirrors |= b.bit;
  for (const bundle of bundles.values()) {
    bundle.srcMirrors = 0;
    bundle.dstMirrors = 0;
    bundle.mirrorOut = 0;
    for (const { settings: mirror, bit, out } of mirrors) {
      if (out === null && mirror.outputVlan === null) continue;
      if (mirror.selectAll || mirror.selectSrcPorts.includes(bundle.name)) bundle.srcMirrors |= bit;
      if (mirror.selectAll || mirror.selectDstPorts.includes(bundle.name)) bundle.dstMirrors |= bit;
      if (out === bundle) bundle.mirrorOut |= bit;
    }
  }
  return mirrors;
}
