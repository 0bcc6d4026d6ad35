/** bundle and multipath: one of several ports or numbers by a hash (ovs lib/bundle.c, lib/multipath.c). */
import type { OfAction } from '../../flow/actions.ts';
import {
  OFPP_ALL,
  OFPP_CONTROLLER,
  OFPP_FLOOD,
  OFPP_IN_PORT,
  OFPP_NONE,
  OFPP_NORMAL,
  OFPP_TABLE,
} from '../../flow/actions.ts';
import { hash2words } from '../../flow/hash.ts';
import type { XlateContext } from './context.ts';
import { flowHashFields, type HashFields, maskHashFields } from './hash.ts';

const ALWAYS = new Set([OFPP_IN_PORT, OFPP_TABLE, OFPP_NORMAL, OFPP_FLOOD, OFPP_ALL, OFPP_NONE]);

export function bundlePort(context: XlateContext, action: Extract<OfAction, { type: 'bundle' }>): number {
  const { ports, fields, basis } = action;
  const enabled = (port: number): boolean =>
    ALWAYS.has(port) || (port !== OFPP_CONTROLLER && (context.bridge.ports.get(port)?.mayEnable ?? false));
  if (action.algorithm === 'active_backup') return ports.find(enabled) ?? OFPP_NONE;
  if (ports.length > 1) maskHashFields(context.flow, context.wc, fields);
  const flowHash = flowHashFields(context.flow, fields, basis);
  let best = -1;
  let bestHash = 0;
  ports.forEach((port, i) => {
    if (!enabled(port)) return;
    const hash = hash2words(i, flowHash);
    if (best < 0 || hash > bestHash) {
      best = i;
      bestHash = hash;
    }
  });
  return ports[best] ?? OFPP_NONE;
}

export function multipathLink(context: XlateContext, action: Extract<OfAction, { type: 'multipath' }>): number {
  const fields = action.fields as HashFields;
  const hash = flowHashFields(context.flow, fields, action.basis);
  maskHashFields(context.flow, context.wc, fields);
  const { links } = action;
  switch (action.algorithm) {
    case 'modulo_n':
      return hash % links;
    case 'hash_threshold':
      return links === 1 ? 0 : Math.floor(hash / (Math.floor(0xffffffff / links) + 1));
    case 'hrw':
      return links <= 64 ? highestRandomWeight(hash, links) : iteratedHash(hash, links, 0);
    default:
      return iteratedHash(hash, links, action.arg);
  }
}
function highestRandomWeight(hash: number, links: number): number {
  let best = 0;
  let bestWeight = hash2words(hash, 0);
  for (let link = 1; link < links; link++) {
    const weight = hash2words(hash, link);
    if (weight > bestWeight) {
      best = link;
      bestWeight = weight;
    }
  }
  return best;
}
function iteratedHash(hash: number, links: number, modulo: number): number {
  const size = modulo < links || Math.floor(modulo / 2) > links ? 2 ** Math.ceil(Math.log2(links)) : modulo;
  for (let i = 0; ; i++) {
    const link = hash2words(hash, i) % size;
    if (link < links) return link;
  }
}
