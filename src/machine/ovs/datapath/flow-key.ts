/**
 * The flow key: the fields of a frame that flow tables match, as nine 32-bit words in memory order (hashing and comparing
 * need no byte swapping). Extracted once per datapath pass, like sw_flow_key and miniflow.
 */
import type { Arena } from '../../memory/arena.ts';

export const KEY_WORDS = 9;
/** Word indices. */
export const KEY_IN_PORT = 0;
export const KEY_ETH_DST = 1; // dst 4 | dst 2, src 2 | src 4
export const KEY_ETH_TYPE = 4; // eth_type | vlan_tci << 16
export const KEY_IP_SRC = 5;
export const KEY_IP_DST = 6;
export const KEY_PORTS = 7;
export const KEY_IP_MISC = 8; // proto | tos << 8 | frag << 16

/** As they lie in memory: ETH_P_IP and ETH_P_8021Q read as little-endian words. */
const ETH_P_IP_LE = 0x0008;
const ETH_P_8021Q_LE = 0x0081;

export class FlowKey {
  readonly words = new Int32Array(KEY_WORDS);
  declare private readonly u8: Uint8Array;
  declare private readonly u16: Uint16Array;

  constructor(arena: Arena) {
    this.u8 = arena.u8;
    this.u16 = arena.u16;
  }

  /** Extracts the key of a frame of `length` bytes at arena offset `at` (even). False when it has no Ethernet header. */
  extract(at: number, length: number, inPort: number): boolean {
    if (length < 14) return false;
    const u16 = this.u16;
    const k = this.words;
    const w = at >> 1;
    k[KEY_IN_PORT] = inPort;
    k[KEY_ETH_DST] = u16[w]! | (u16[w + 1]! << 16);
    k[KEY_ETH_DST + 1] = u16[w + 2]! | (u16[w + 3]! << 16);
    k[KEY_ETH_DST + 2] = u16[w + 4]! | (u16[w + 5]! << 16);
    let type = u16[w + 6]!;
    let tci = 0;
    let l3 = at + 14;
    if (type === ETH_P_8021Q_LE && length >= 18) {
      tci = u16[w + 7]!;
      type = u16[w + 8]!;
      l3 += 4;
    }
    k[KEY_ETH_TYPE] = type | (tci << 16);
    k[KEY_IP_SRC] = 0;
    k[KEY_IP_DST] = 0;
    k[KEY_PORTS] = 0;
    k[KEY_IP_MISC] = 0;
    if (type === ETH_P_IP_LE && at + length >= l3 + 20) {
      const q = l3 >> 1;
      const u8 = this.u8;
      k[KEY_IP_SRC] = u16[q + 6]! | (u16[q + 7]! << 16);
      k[KEY_IP_DST] = u16[q + 8]! | (u16[q + 9]! << 16);
      const protocol = u8[l3 + 9]!;
      const fragment = (u8[l3 + 6]! & 0x3f) | u8[l3 + 7]! ? 1 : 0;
      k[KEY_IP_MISC] = protocol | (u8[l3 + 1]! << 8) | (fragment << 16);
      const l4 = l3 + ((u8[l3]! & 15) << 2);
      if ((protocol === 17 || protocol === 6) && fragment === 0 && at + length >= l4 + 4) {
        k[KEY_PORTS] = u16[l4 >> 1]! | (u16[(l4 >> 1) + 1]! << 16);
      }
    }
    return true;
  }
}

/** Hash of the whole key: what a NIC's RSS or the software hash gives the exact match cache. */
export function hashKey(k: Int32Array): number {
  let h = Math.imul(k[1]! ^ Math.imul(k[2]!, 31) ^ k[3]! ^ 0x9e3779b1, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15) ^ k[5]!, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 13) ^ k[6]!, 0x27d4eb2f);
  h = Math.imul(h ^ (h >>> 16) ^ k[7]!, 0x165667b1);
  h = Math.imul(h ^ (h >>> 15) ^ k[8]! ^ (k[0]! << 24) ^ k[4]!, 0x9e3779b1);
  return h ^ (h >>> 15);
}
