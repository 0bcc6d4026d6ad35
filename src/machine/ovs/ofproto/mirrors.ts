/** Mirrors of a bridge (ovs ofproto/ofproto-dpif-mirror.c). At most MAX_MIRRORS of them, a bit each. */
import type { Bundle } from './bundle.ts';

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
  out: Bundle | null;
  /** Statistics of the row: tx_packets, tx_bytes. */
  packets: number;
  bytes: number;
}
