/**
 * A datapath as ofproto asks it for things (ovs lib/dpif.h): frames that are not in the datapath are executed, bytes are read.
 *
 * DEVIATION: a frame that comes back from ovs-vswitchd by a PACKET_OUT or a resumed continuation is a new one, with an id of its own;
 * what the datapath does with it costs nobody anything beyond what its caller has paid.
 */
import { DP_FDB_LEARN } from '../../../engine/events.ts';
import { copyIn, copyOut } from '../../packet/copy.ts';
import { clearHeader } from '../../packet/net-header.ts';
import { FRAME_OFFSET } from '../../packet/pool.ts';
import type { Services } from '../../services.ts';
import { W_IN_PORT } from '../flow/flow.ts';
import type { Dpif } from '../ofproto/backer.ts';
import { DatapathMeters } from '../ofproto/tables/meters.ts';
import { compileActions } from './compiled-actions.ts';
import type { KernelDatapath } from './kernel-datapath.ts';
import { NetdevDatapath } from './netdev-datapath.ts';
import type { OdpAction } from './odp-actions.ts';

export class DatapathDpif implements Dpif {
  declare readonly name: string;
  declare readonly type: 'system' | 'netdev';
  declare readonly datapath: KernelDatapath | NetdevDatapath;
  readonly meters = new DatapathMeters();
  declare private readonly services: Services;

  constructor(services: Services, datapath: KernelDatapath | NetdevDatapath) {
    this.services = services;
    this.datapath = datapath;
    this.name = datapath.dpName;
    this.type = datapath instanceof NetdevDatapath ? 'netdev' : 'system';
    datapath.meters = this.meters;
  }

  execute(
    frame: Uint8Array,
    key: Int32Array,
    actions: readonly OdpAction[],
    place: number,
    now: number,
    contextBits: number,
  ): void {
    const { pool, arena, frames, recorder } = this.services;
    const { datapath } = this;
    const packet = pool.alloc(FRAME_OFFSET + frame.length);
    if (packet < 0) return;
    const before = recorder.stamp[0]!;
    recorder.stamp[0] = now;
    clearHeader(arena.u32, pool.slot(packet));
    copyIn(arena, pool.at(packet), frame);
    pool.length[packet] = frame.length;
    const inPort = key[W_IN_PORT]!;
    pool.inPort[packet] = datapath.ports.has(inPort) ? inPort : NO_PORT;
    pool.frame[packet] = frames.born((place << 8) | contextBits, pool.at(packet), frame.length, 0);
    const { debt } = datapath;
    datapath.executeAs(packet, key, compileActions(actions), place, contextBits);
    datapath.debt = debt;
    recorder.stamp[0] = before;
  }
  macLearned(place: number, mac: number, ofPort: number, contextBits: number): void {
    this.services.recorder.event((place << 8) | contextBits | DP_FDB_LEARN, 0, mac % 4294967296, ofPort);
  }
  creditAll(): void {
    this.datapath.creditAll();
  }
  bytesOf(packet: number): Uint8Array {
    const { pool, arena } = this.services;
    return copyOut(arena, pool.at(packet), pool.length[packet]!);
  }
}
/** In-port of frames that came in by none (ODPP_NONE). */
const NO_PORT = 0;
