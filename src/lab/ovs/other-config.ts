/** `other_config` of Open_vSwitch, as far as datapaths follow it (ovs lib/dpif-netdev.c dpif_netdev_set_config(), udpif_set_threads()). */

import type { OvsDatapath } from '../../machine/ovs/datapath/datapath.ts';
import { EMC_INSERT_INV_PROB, NetdevDatapath } from '../../machine/ovs/datapath/netdev-datapath.ts';
import { FLOW_LIMIT, MAX_IDLE_MS, MAX_REVALIDATOR_MS, OvsRevalidator } from '../../machine/ovs/datapath/revalidator.ts';
import type { TextMap } from '../../machine/ovs/vswitchd/config.ts';
import { flagIn, integerIn } from '../../machine/ovs/vswitchd/smap.ts';

/** A tenth of a second is the least that both times may be (bridge_reconfigure(), ofproto_set_max_idle()). */
const LEAST_MS = 100;
const MOST_PROBABILITY = 2 ** 32 - 1;
const MOST_FLUSH_US = 1_000_000;

/** What concerns PMDs and their receive queues is pmd-threads.ts. */
export function applyOtherConfig(config: TextMap, datapath: OvsDatapath): void {
  if (datapath.revalidator instanceof OvsRevalidator) {
    const { revalidator } = datapath;
    revalidator.maxIdleMs = Math.max(LEAST_MS, integerIn(config, 'max-idle', MAX_IDLE_MS));
    revalidator.maxRevalidatorMs = Math.max(LEAST_MS, integerIn(config, 'max-revalidator', MAX_REVALIDATOR_MS));
    revalidator.maxFlowLimit = Math.max(0, integerIn(config, 'flow-limit', FLOW_LIMIT));
  }
  if (!(datapath instanceof NetdevDatapath)) return;
  const probability = integerIn(config, 'emc-insert-inv-prob', EMC_INSERT_INV_PROB, MOST_PROBABILITY);
  datapath.emcInsertInvProb = probability >= 0 ? probability : EMC_INSERT_INV_PROB;
  datapath.smcEnabled = flagIn(config, 'smc-enable', false);
  // microseconds
  const flush = integerIn(config, 'tx-flush-interval', 0);
  datapath.txFlushNs = flush >= 0 && flush <= MOST_FLUSH_US ? flush * 1000 : 0;
}
